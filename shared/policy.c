#include "shared/policy.h"

enum policy_outcome policy_merge(struct arena *a, enum column_policy policy, enum column_kind kind,
				 const struct policy_edit *e, struct value *out)
{
	switch (policy) {
	case POLICY_COUNTER:
		return policy_counter(a, kind, e, out);
	case POLICY_SET:
		return kind == KIND_ARRAY ? policy_set(a, e, out) : POLICY_UNFIT;
	case POLICY_JSON:
		return kind == KIND_JSON ? policy_json(a, e, out) : POLICY_UNFIT;
	case POLICY_TEXT:
		return policy_text(a, e, out);
	default:
		return POLICY_UNFIT;
	}
}
