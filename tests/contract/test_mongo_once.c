/*
 * Exactly once on MongoDB: every reply and every request of every kind of change is lost in turn, on the wire, with another
 * session changing the same record before anybody asks.
 */
#include "tests/lib/mongo_scenarios.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void lost_badly(struct mongo_world *w, const struct mongo_scenario *s, unsigned int nth, int r)
{
	char names[1024];

	mongo_proxy_names(w->proxy, names, sizeof(names));
	fail_msg("%s, %u lost: %s, %u hits; %s", s->name, nth, strerror(-r), mongo_proxy_hits(w->proxy),
		 names);
}

static void lose_each(struct mongo_world *w, enum mongo_proxy_action action, bool meddling)
{
	for (size_t i = 0; i < mongo_n_scenarios; i++) {
		const struct mongo_scenario *s = &mongo_scenarios[i];

		for (unsigned int nth = 1; nth <= s->trips; nth++) {
			int r;

			mongo_scenario_begin(w, s, nth + 100 * action + 200 * meddling);
			mongo_proxy_on(w->proxy, nth, action, meddling ? mongo_meddle : NULL, w);
			r = s->go(w);
			if (r || mongo_proxy_hits(w->proxy) != 1)
				lost_badly(w, s, nth, r);
			mongo_proxy_on(w->proxy, 0, action, NULL, NULL);
			s->check(w);
		}
	}
}

static void test_once__every_reply_is_lost_and_another_changes_the_record(void **state)
{
	lose_each(*state, PROXY_LOSE, true);
}

static void test_once__every_request_is_lost_in_turn(void **state)
{
	lose_each(*state, PROXY_DROP, false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_once__every_reply_is_lost_and_another_changes_the_record,
						mongo_world_setup, mongo_world_teardown),
		cmocka_unit_test_setup_teardown(test_once__every_request_is_lost_in_turn, mongo_world_setup,
						mongo_world_teardown),
	};
	int failed;

	/* test_mongo_once [PATTERN] */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	mongo_server_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	mongo_server_stop();
	return failed;
}
