/* ferry-agent: keeps a plain SQLite file in step with a hub. */
#include "agent/cli.h"

int main(int argc, char **argv)
{
	static const struct cli_program program = {
		.name = "ferry-agent",
		.summary = "keeps a plain SQLite file in step with a hub",
		.commands = agent_commands,
		.common = agent_options,
		.bare = cli_config,
		.notes = "The replica is <state folder>/replica.db; any program may read and write it with SQL.",
	};
	return cli_main(&program, argc, argv);
}
