#include "shared/time_text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DAY_US 86400000000
#define DAYS_MIN (-2440588) /* 4714-11-24 BC, Julian day 0 */
#define DATE_DAYS_MAX 2145042905 /* 5874897-12-31 */
#define ERA_YEARS 400
#define ERA_DAYS 146097
#define EPOCH_DAYS 719468 /* 0000-03-01 to 1970-01-01 */

struct civil {
	int64_t year; /* astronomical: 0 is 1 BC */
	int month;    /* 1-12 */
	int day;      /* 1-31 */
};

static int64_t floor_divide(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Years run from March here, so that the leap day is a year's last day; 400
 * such years are an era of always the same number of days. */
static struct civil civil_of_days(int64_t days)
{
	int64_t era = floor_divide(days + EPOCH_DAYS, ERA_DAYS);
	int64_t day_of_era = days + EPOCH_DAYS - era * ERA_DAYS;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (ERA_DAYS - 1)) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153; /* 0 is March */
	struct civil c;

	c.day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
	c.month = (int)(month < 10 ? month + 3 : month - 9);
	c.year = era * ERA_YEARS + year_of_era + (c.month <= 2);
	return c;
}

static int64_t days_of_civil(const struct civil *c)
{
	int64_t year = c->year - (c->month <= 2);
	int64_t era = floor_divide(year, ERA_YEARS);
	int64_t year_of_era = year - era * ERA_YEARS;
	int64_t month = c->month > 2 ? c->month - 3 : c->month + 9;
	int64_t day_of_year = (153 * month + 2) / 5 + c->day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * ERA_DAYS + day_of_era - EPOCH_DAYS;
}

static bool is_civil(const struct civil *c)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = c->year % 4 == 0 && (c->year % 100 != 0 || c->year % 400 == 0);

	if (c->month < 1 || c->month > 12 || c->day < 1)
		return false;
	return c->day <= days[c->month - 1] + (c->month == 2 && leap);
}

static bool infinity_to_text(const struct value *v, char out[TIME_TEXT_MAX])
{
	if (v->kind != VALUE_FLOAT || !isinf(v->f))
		return false;
	snprintf(out, TIME_TEXT_MAX, "%s", v->f > 0 ? "infinity" : "-infinity");
	return true;
}

/* The last `digits` of a number. A replica's fill writes millions of times:
 * printf took a tenth of its time. */
static char *put_digits(char *p, int64_t number, int digits)
{
	for (int i = digits; i-- > 0; number /= 10)
		p[i] = (char)('0' + number % 10);
	return p + digits;
}

static char *put_field(char *p, char before, int64_t number, int digits)
{
	*p = before;
	return put_digits(p + 1, number, digits);
}

/* Returns the end of what it wrote; *out_suffix is to follow the whole. */
static char *put_day(int64_t days, char *p, const char **out_suffix)
{
	struct civil c = civil_of_days(days);
	int64_t year = c.year > 0 ? c.year : 1 - c.year;
	int digits = 4;

	for (int64_t y = year / 10000; y > 0; y /= 10)
		digits++;
	p = put_digits(p, year, digits);
	p = put_field(p, '-', c.month, 2);
	p = put_field(p, '-', c.day, 2);
	*out_suffix = c.year > 0 ? "" : " BC";
	return p;
}

bool timestamp_to_text(const struct value *v, char out[TIME_TEXT_MAX])
{
	int64_t days, us;
	const char *suffix;
	int second;
	char *p;

	if (v->kind != VALUE_INT)
		return infinity_to_text(v, out);
	days = floor_divide(v->i, DAY_US);
	if (days < DAYS_MIN)
		return false;
	us = v->i - days * DAY_US;
	second = (int)(us / 1000000);
	p = put_day(days, out, &suffix);
	p = put_field(p, 'T', second / 3600, 2);
	p = put_field(p, ':', second / 60 % 60, 2);
	p = put_field(p, ':', second % 60, 2);
	p = put_field(p, '.', us % 1000000, 6);
	*p++ = 'Z';
	memcpy(p, suffix, strlen(suffix) + 1);
	return true;
}

bool date_to_text(const struct value *v, char out[TIME_TEXT_MAX])
{
	const char *suffix;
	char *p;

	if (v->kind != VALUE_INT)
		return infinity_to_text(v, out);
	if (v->i < DAYS_MIN || v->i > DATE_DAYS_MAX)
		return false;
	p = put_day(v->i, out, &suffix);
	memcpy(p, suffix, strlen(suffix) + 1);
	return true;
}

struct scan {
	const char *p;
	const char *end;
};

static bool scan_char(struct scan *s, const char *any)
{
	if (s->p == s->end || *s->p == '\0' || strchr(any, *s->p) == NULL)
		return false;
	s->p++;
	return true;
}

/* A number of min to max digits; -1 when there is none. */
static int64_t scan_number(struct scan *s, int min, int max)
{
	int64_t number = 0;
	int digits = 0;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9' && digits < max) {
		number = number * 10 + (*s->p++ - '0');
		digits++;
	}
	return digits < min ? -1 : number;
}

static bool scan_suffix(struct scan *s, const char *suffix)
{
	size_t n = strlen(suffix);

	if ((size_t)(s->end - s->p) < n || strncasecmp(s->end - n, suffix, n) != 0)
		return false;
	s->end -= n;
	return true;
}

static bool scan_day(struct scan *s, bool bc, int64_t *out_days)
{
	struct civil c = {0};

	c.year = scan_number(s, 4, 7);
	if (c.year < 1 || !scan_char(s, "-"))
		return false;
	c.month = (int)scan_number(s, 2, 2);
	if (!scan_char(s, "-"))
		return false;
	c.day = (int)scan_number(s, 2, 2);
	if (bc)
		c.year = 1 - c.year;
	if (!is_civil(&c))
		return false;
	*out_days = days_of_civil(&c);
	return true;
}

/* What follows the point: up to nine digits, rounded to microseconds. */
static bool scan_fraction(struct scan *s, int64_t *us)
{
	const char *first = s->p;
	int64_t fraction = scan_number(s, 1, 9);

	if (fraction < 0)
		return false;
	for (long digits = s->p - first; digits < 9; digits++)
		fraction *= 10;
	*us += (fraction + 500) / 1000;
	return true;
}

static bool scan_clock(struct scan *s, int64_t *out_us)
{
	int64_t hour = scan_number(s, 2, 2), minute, second = 0;

	if (!scan_char(s, ":"))
		return false;
	minute = scan_number(s, 2, 2);
	if (scan_char(s, ":"))
		second = scan_number(s, 2, 2);
	if (hour < 0 || minute < 0 || second < 0 || minute > 59 || second > 59)
		return false;
	*out_us = ((hour * 60 + minute) * 60 + second) * 1000000;
	if (scan_char(s, ".") && !scan_fraction(s, out_us))
		return false;
	return hour < 24 || *out_us == DAY_US; /* 24:00:00 is the next midnight */
}

/* Z, +hh, +hhmm, +hh:mm or nothing; gives what is to be subtracted. */
static bool scan_zone(struct scan *s, int64_t *out_us)
{
	bool west = s->p < s->end && *s->p == '-';
	int64_t hour, minute = 0;

	*out_us = 0;
	if (s->p == s->end || scan_char(s, "Zz"))
		return true;
	if (!scan_char(s, "+-"))
		return false;
	hour = scan_number(s, 2, 2);
	if (scan_char(s, ":") || s->p < s->end)
		minute = scan_number(s, 2, 2);
	if (hour < 0 || hour > 15 || minute < 0 || minute > 59)
		return false;
	*out_us = (hour * 60 + minute) * 60000000 * (west ? -1 : 1);
	return true;
}

static bool infinity_from_text(const char *text, size_t n, struct value *out)
{
	bool negative = n > 0 && text[0] == '-';

	if (n != strlen("infinity") + negative || strncasecmp(text + negative, "infinity", n - negative) != 0)
		return false;
	*out = (struct value){.kind = VALUE_FLOAT, .f = negative ? -INFINITY : INFINITY};
	return true;
}

bool date_from_text(const char *text, size_t n, struct value *out)
{
	struct scan s = {text, text + n};
	int64_t days;

	if (infinity_from_text(text, n, out))
		return true;
	if (!scan_day(&s, scan_suffix(&s, " BC"), &days) || s.p != s.end)
		return false;
	if (days < DAYS_MIN || days > DATE_DAYS_MAX)
		return false;
	*out = value_int(days);
	return true;
}

bool timestamp_from_text(const char *text, size_t n, struct value *out)
{
	struct scan s = {text, text + n};
	int64_t days, clock_us = 0, zone_us = 0, us;

	if (infinity_from_text(text, n, out))
		return true;
	if (!scan_day(&s, scan_suffix(&s, " BC"), &days) || days < DAYS_MIN)
		return false;
	if (s.p != s.end && (!scan_char(&s, "Tt ") || !scan_clock(&s, &clock_us) || !scan_zone(&s, &zone_us)))
		return false;
	if (s.p != s.end || __builtin_mul_overflow(days, DAY_US, &us) ||
	    __builtin_add_overflow(us, clock_us - zone_us, &us) || floor_divide(us, DAY_US) < DAYS_MIN)
		return false;
	*out = value_int(us);
	return true;
}
