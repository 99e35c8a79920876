#include "shared/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "shared/loop_lws.h"
#include "shared/loop_timers.h"

#define DESCRIPTORS_DEFAULT 256
#define HANDSHAKES_DEFAULT  128
#define HANDSHAKE_DEFAULT_S 10
/* One TLS record fits, so that a record is handed on in one piece. */
#define SERVICE_BUFFER_BYTES 32768

struct loop {
	struct lws_context *context;
	struct lws_vhost *vhost; /* of the watches */
	struct loop_config config;
	struct timers timers;
	struct loop_watch *timers_watch;
	struct loop_watch *signals;
	int signal_fd;
	void (*on_signal)(void *context, int signal_number);
	void *signal_context;
	lws_sorted_usec_list_t reaper;
	struct lws_vhost **reaped;
	size_t reaped_count;
	size_t reaped_room;
	unsigned numbers;
	bool stopping;
	bool closing;
};

struct loop_watch {
	struct loop *loop;
	struct lws *wsi; /* NULL once the library has closed it */
	struct loop_watch_calls calls;
	void *context;
};

const lws_retry_bo_t loop_no_idle_checks = {0};

/* The library's log has no context; there is one loop a process. */
static struct loop *log_loop;

static void log_line(int level, const char *line)
{
	size_t n = strcspn(line, "\n");
	char text[512];

	(void)level;
	if (!log_loop || !log_loop->config.log)
		return;
	if (n >= sizeof text)
		n = sizeof text - 1;
	memcpy(text, line, n);
	text[n] = '\0';
	log_loop->config.log(log_loop->config.log_context, text);
}

int64_t loop_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * LOOP_SECOND_US + now.tv_nsec / 1000;
}

int64_t loop_wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * LOOP_SECOND_US + now.tv_nsec / 1000;
}

struct lws_context *loop_context(struct loop *loop)
{
	return loop->context;
}

bool loop_is_closing(const struct loop *loop)
{
	return loop->closing;
}

unsigned loop_number(struct loop *loop)
{
	return ++loop->numbers;
}

/* --- watches --------------------------------------------------------------------------- */

static int watch_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct loop_watch *watch = lws_get_opaque_user_data(wsi);

	(void)user;
	(void)in;
	(void)len;
	switch (reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
		if (!watch)
			return -1;
		watch->calls.on_readable(watch->context);
		break;
	case LWS_CALLBACK_RAW_WRITEABLE_FILE:
		if (!watch)
			return -1;
		if (watch->calls.on_writable)
			watch->calls.on_writable(watch->context);
		break;
	case LWS_CALLBACK_RAW_CLOSE_FILE:
		if (!watch)
			return 0;
		lws_set_opaque_user_data(wsi, NULL);
		watch->wsi = NULL;
		if (!watch->loop->closing)
			watch->calls.on_readable(watch->context);
		return 0;
	default:
		return 0;
	}
	/* The callback may have freed the watch. */
	return lws_get_opaque_user_data(wsi) ? 0 : -1;
}

static const struct lws_protocols watch_protocols[] = {
	{.name = "watch", .callback = watch_callback},
	LWS_PROTOCOL_LIST_TERM,
};

enum ferry_error loop_watch_new(struct loop *loop, int fd, const struct loop_watch_calls *calls, void *context,
				struct loop_watch **out_watch, struct ferry_why *why)
{
	struct loop_watch *watch = calloc(1, sizeof *watch);
	lws_adopt_desc_t adopt = {.vh = loop->vhost, .type = LWS_ADOPT_RAW_FILE_DESC, .vh_prot_name = "watch"};

	assert(calls->on_readable);
	if (!watch)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory to watch a descriptor");
	watch->loop = loop;
	watch->calls = *calls;
	watch->context = context;
	/* The library closes what it adopts. */
	adopt.fd.filefd = dup(fd);
	if (adopt.fd.filefd < 0) {
		free(watch);
		return ferry_fail(why, FERRY_IO, "cannot watch a descriptor: %s", strerror(errno));
	}
	adopt.opaque = watch;
	watch->wsi = lws_adopt_descriptor_vhost_via_info(&adopt); /* closes it when it fails */
	if (!watch->wsi) {
		free(watch);
		return ferry_fail(why, FERRY_LIMIT, "the loop cannot watch another descriptor");
	}
	*out_watch = watch;
	return FERRY_OK;
}

void loop_watch_want_write(struct loop_watch *watch)
{
	if (watch->wsi)
		lws_callback_on_writable(watch->wsi);
}

void loop_watch_pause(struct loop_watch *watch, bool paused)
{
	if (watch->wsi)
		lws_rx_flow_control(watch->wsi, !paused);
}

void loop_watch_free(struct loop_watch *watch)
{
	if (!watch)
		return;
	if (watch->wsi) {
		lws_set_opaque_user_data(watch->wsi, NULL);
		/* Asynchronous: we may be inside this very watch's callback. */
		lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	}
	free(watch);
}

/* --- timers ---------------------------------------------------------------------------- */

struct timers *loop_timers(struct loop *loop)
{
	return &loop->timers;
}

static void timers_readable(void *context)
{
	timers_rang(&((struct loop *)context)->timers);
}

/* --- vhosts to be ended ---------------------------------------------------------------- */

static void reap(lws_sorted_usec_list_t *sul)
{
	struct loop *loop = lws_container_of(sul, struct loop, reaper);

	while (loop->reaped_count > 0)
		lws_vhost_destroy(loop->reaped[--loop->reaped_count]);
}

void loop_reap_vhost(struct loop *loop, struct lws_vhost *vhost)
{
	/* When the loop itself ends, its context takes the vhosts along. */
	if (!vhost || loop->closing)
		return;
	if (loop->reaped_count == loop->reaped_room) {
		size_t room = loop->reaped_room ? 2 * loop->reaped_room : 8;
		struct lws_vhost **more = reallocarray(loop->reaped, room, sizeof(struct lws_vhost *));

		if (!more)
			return; /* it then lives until the loop ends, idle */
		loop->reaped = more;
		loop->reaped_room = room;
	}
	loop->reaped[loop->reaped_count++] = vhost;
	lws_sul_schedule(loop->context, 0, &loop->reaper, reap, 1);
}

/* --- signals --------------------------------------------------------------------------- */

static void signal_readable(void *context)
{
	struct loop *loop = context;
	struct signalfd_siginfo info;

	while (read(loop->signal_fd, &info, sizeof info) == sizeof info)
		loop->on_signal(loop->signal_context, (int)info.ssi_signo);
}

enum ferry_error loop_signals(struct loop *loop, void (*on_signal)(void *context, int signal_number), void *context,
			      struct ferry_why *why)
{
	static const struct loop_watch_calls calls = {.on_readable = signal_readable};
	sigset_t set;

	assert(loop->signal_fd < 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return ferry_fail(why, FERRY_INTERNAL, "cannot block signals: %s", strerror(errno));
	loop->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (loop->signal_fd < 0)
		return ferry_fail(why, FERRY_INTERNAL, "cannot wait for signals: %s", strerror(errno));
	loop->on_signal = on_signal;
	loop->signal_context = context;
	return loop_watch_new(loop, loop->signal_fd, &calls, loop, &loop->signals, why);
}

/* --- the loop -------------------------------------------------------------------------- */

static unsigned or_default(unsigned value, unsigned fallback)
{
	return value ? value : fallback;
}

static unsigned descriptors(const struct loop_config *config)
{
	unsigned wanted = or_default(config->descriptors_max, DESCRIPTORS_DEFAULT);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted)
		wanted = (unsigned)limit.rlim_cur;
	return wanted;
}

static enum ferry_error watch_timers(struct loop *loop, struct ferry_why *why)
{
	static const struct loop_watch_calls calls = {.on_readable = timers_readable};
	enum ferry_error e = timers_init(&loop->timers, why);

	if (e == FERRY_OK)
		e = loop_watch_new(loop, loop->timers.fd, &calls, loop, &loop->timers_watch, why);
	return e;
}

enum ferry_error loop_new(const struct loop_config *config, struct loop **out_loop, struct ferry_why *why)
{
	struct lws_context_creation_info info;
	struct loop *loop = calloc(1, sizeof *loop);
	enum ferry_error e;

	if (!loop)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for the event loop");
	loop->timers.fd = -1;
	if (config)
		loop->config = *config;
	loop->signal_fd = -1;
	log_loop = loop;
	lws_set_log_level(loop->config.log ? LLL_ERR | LLL_WARN : 0, log_line);

	memset(&info, 0, sizeof info);
	info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
	info.port = CONTEXT_PORT_NO_LISTEN;
	info.pt_serv_buf_size = SERVICE_BUFFER_BYTES;
	info.fd_limit_per_thread = descriptors(&loop->config);
	info.simultaneous_ssl_handshake_restriction =
		(int)or_default(loop->config.handshakes_max, HANDSHAKES_DEFAULT);
	info.ip_limit_wsi = (unsigned short)loop->config.connections_per_address_max;
	info.timeout_secs = or_default(loop->config.handshake_timeout_s, HANDSHAKE_DEFAULT_S);
	info.retry_and_idle_policy = &loop_no_idle_checks;
	loop->context = lws_create_context(&info);
	if (!loop->context) {
		free(loop);
		log_loop = NULL;
		return ferry_fail(why, FERRY_INTERNAL, "the event loop cannot be made (descriptors: %u)",
				  descriptors(config ? config : &(struct loop_config){0}));
	}
	info.options = 0;
	info.vhost_name = "loop";
	info.protocols = watch_protocols;
	loop->vhost = lws_create_vhost(loop->context, &info);
	if (!loop->vhost) {
		loop_free(loop);
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for the event loop");
	}
	e = watch_timers(loop, why);
	if (e != FERRY_OK) {
		loop_free(loop);
		return e;
	}
	*out_loop = loop;
	return FERRY_OK;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop->closing = true;
	lws_sul_cancel(&loop->reaper);
	loop_watch_free(loop->signals);
	loop_watch_free(loop->timers_watch);
	lws_context_destroy(loop->context);
	timers_deinit(&loop->timers);
	if (loop->signal_fd >= 0)
		close(loop->signal_fd);
	if (log_loop == loop)
		log_loop = NULL;
	free(loop->reaped);
	free(loop);
}

/* The library sees to descriptors, sleeping until there is one or a timer rings; then timers
 * run, outside of it. False: it has ended. */
static bool turn(struct loop *loop)
{
	if (lws_service(loop->context, timers_due(&loop->timers) ? -1 : 0) < 0)
		return false;
	timers_run(&loop->timers);
	return true;
}

void loop_run(struct loop *loop)
{
	loop->stopping = false;
	while (!loop->stopping && turn(loop))
		;
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
	lws_cancel_service(loop->context);
}

static void deadline_passed(void *context)
{
	*(bool *)context = true;
}

bool loop_run_until(struct loop *loop, bool (*done)(void *context), void *context, int64_t deadline_us)
{
	struct loop_timer *timer = NULL;
	bool late = false;
	bool reached;

	if (loop_timer_new(loop, deadline_passed, &late, &timer) != FERRY_OK)
		return done(context);
	loop_timer_set(timer, deadline_us);
	loop->stopping = false;
	while (!(reached = done(context)) && !late && !loop->stopping && turn(loop))
		;
	loop_timer_free(timer);
	return reached;
}
