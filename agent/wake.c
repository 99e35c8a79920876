#include "agent/wake.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* IN_CLOSE_WRITE comes after everything that its writer did; IN_MODIFY earlier. */
#define WATCHED (IN_MODIFY | IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ATTRIB)

struct wake {
	struct wake_effects effects;
	void *ctx;
	int fd;             /* -1: polling */
	int folder_watch, file_watch;
	char path[PATH_MAX];   /* resolved, as SQLite names the WAL beside the real file */
	char folder[PATH_MAX];
	const char *name;      /* within path */
	int64_t version;
	bool known;            /* version is valid */
	int64_t own;           /* our own commits, at the last events */
	int64_t pause_us;      /* between the last look and the next one of the ladder */
	int64_t next_at;
	struct wake_stats stats;
};

static int64_t slowest(const struct wake *w)
{
	return w->fd < 0 || w->folder_watch < 0 ? WAKE_POLL_US : WAKE_SAFETY_US;
}

/* The folder's watch sees the files that come and go in it; the file's own
 * watch sees writers that came by another path (a hard link, a bind mount). */
static void watch(struct wake *w)
{
	if (w->fd < 0)
		return;
	if (w->folder_watch < 0)
		w->folder_watch = inotify_add_watch(w->fd, w->folder, WATCHED | IN_ONLYDIR | IN_DELETE_SELF | IN_MOVE_SELF);
	if (w->file_watch < 0)
		w->file_watch = inotify_add_watch(w->fd, w->path, IN_MODIFY | IN_CLOSE_WRITE);
}

static void look(struct wake *w, int64_t now_us)
{
	int64_t version;
	bool safety = w->pause_us >= slowest(w);
	w->stats.looks++;
	if (!w->effects.version(w->ctx, &version)) {
		w->pause_us = WAKE_FIRST_US;
	} else if (!w->known || version != w->version) {
		bool changed = w->known;
		w->version = version;
		w->known = true;
		if (changed) {
			w->stats.changes++;
			w->stats.by_safety += safety;
			w->effects.changed(w->ctx);
		}
	}
	w->next_at = now_us + w->pause_us;
	w->pause_us = w->pause_us * WAKE_GROWTH < slowest(w) ? w->pause_us * WAKE_GROWTH : slowest(w);
}

static enum ferry_error resolve(struct wake *w, const char *path, struct ferry_why *why)
{
	if (!realpath(path, w->path))
		return ferry_fail(why, errno == ENOENT ? FERRY_NOT_FOUND : FERRY_IO, "%s cannot be watched: %s", path,
				  strerror(errno));
	char *slash = strrchr(w->path, '/');
	w->name = slash + 1;
	size_t n = slash == w->path ? 1 : (size_t)(slash - w->path);
	memcpy(w->folder, w->path, n);
	w->folder[n] = '\0';
	return FERRY_OK;
}

enum ferry_error wake_open(const char *path, const struct wake_effects *effects, void *ctx, int64_t now_us,
			   struct wake **out, struct ferry_why *why)
{
	struct wake *w = calloc(1, sizeof(*w));
	if (!w)
		return FERRY_NO_MEMORY;
	w->effects = *effects;
	w->ctx = ctx;
	w->folder_watch = w->file_watch = -1;
	enum ferry_error e = resolve(w, path, why);
	if (e != FERRY_OK) {
		free(w);
		return e;
	}
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	watch(w);
	/* Watched first, looked second: a commit in between is an event. */
	w->pause_us = WAKE_FIRST_US;
	look(w, now_us);
	*out = w;
	return FERRY_OK;
}

void wake_close(struct wake *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

int wake_fd(const struct wake *w)
{
	return w->fd;
}

int64_t wake_at(const struct wake *w)
{
	return w->next_at;
}

static bool concerns_us(struct wake *w, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW)
		return true;
	if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) {
		if (event->wd == w->folder_watch)
			w->folder_watch = -1;
		if (event->wd == w->file_watch)
			w->file_watch = -1;
		return true;
	}
	if (event->wd == w->file_watch)
		return true;
	size_t n = strlen(w->name);
	return event->len && strncmp(event->name, w->name, n) == 0 &&
	       (event->name[n] == '\0' || event->name[n] == '-'); /* -wal, -shm, -journal */
}

static bool take_events(struct wake *w)
{
	/* Aligned and large enough for any event, as inotify(7) asks. */
	_Alignas(struct inotify_event) char bytes[8192];
	bool ours = false;
	for (;;) {
		ssize_t n = read(w->fd, bytes, sizeof(bytes));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ours;
		for (char *p = bytes; p < bytes + n;) {
			const struct inotify_event *event = (const struct inotify_event *)(void *)p;
			p += sizeof(*event) + event->len;
			if (concerns_us(w, event)) {
				w->stats.events++;
				ours = true;
			}
		}
	}
}

void wake_readable(struct wake *w, int64_t now_us)
{
	int64_t own = w->effects.own ? w->effects.own(w->ctx) : 0;

	if (w->fd < 0 || !take_events(w))
		return;
	w->pause_us = own == w->own ? WAKE_FIRST_US : WAKE_OWN_US;
	w->own = own;
	look(w, now_us);
}

void wake_tick(struct wake *w, int64_t now_us)
{
	if (now_us < w->next_at)
		return;
	watch(w); /* again, when a watch was lost */
	look(w, now_us);
}

void wake_stats(const struct wake *w, struct wake_stats *out)
{
	*out = w->stats;
}
