// Package manifest turns a directory of files, which people or their tools change as
// they like, into a set of task definitions and services that only ever changes on
// purpose. It knows no task and runs nothing.
//
//	inotify ──┐                        last good content
//	          ├─► scan ──► decide ───┬──► Set ───► whoever runs it
//	timer ────┘   files     │        └──► File ──► status of every file
//	                        ▼
//	        accepted · invalid · duplicate · ignored
//
// Scanning reads the whole directory each time; an event says only that it is worth
// while. Whatever inotify loses (a queue that overflowed, a network file system, a
// symlink that was exchanged) the next scan by the clock finds.
//
// Deciding is a function of what was accepted before and what was found now. Its rules,
// of which the first is above all others:
//
//   - What runs is never stopped because a file became unreadable, invalid, half-written
//     or double. The last good content of the file counts on, and its status says so.
//   - A file that is gone takes its documents with it. But a directory that vanished, is
//     empty or cannot be read takes nothing: such things happen by accident (a mount, a
//     failed checkout). Who means it puts a file .allow-empty there.
//   - A file counts as a whole: all of its documents, or its last good ones.
//   - Two files that define the same are both refused: neither order of names nor of time
//     decides what runs.
//   - A definition that a service names stays for as long as the service does.
//   - Content counts, not times: touching a file changes nothing.
package manifest
