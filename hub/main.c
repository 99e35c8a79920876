/* ferry-hub: merges the change-sets of field devices into PostgreSQL. */
#include "hub/cli.h"

int main(int argc, char **argv)
{
	static const struct cli_program program = {
		.name = "ferry-hub",
		.summary = "merges the change-sets of field devices into PostgreSQL",
		.commands = hub_commands,
		.common = hub_options,
		.bare = cli_config,
	};
	return cli_main(&program, argc, argv);
}
