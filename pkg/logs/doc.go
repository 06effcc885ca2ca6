// Package logs reads the files that the containers' output is kept in, and knows the
// options that say how much of it is kept.
//
// The files are written by [ecsd/pkg/logs/writer], a process beside each container, so
// neither the agent nor containerd stands between a container and its log. The newest is
// <container>.log, older ones <container>.log.1, .2, …; every line of them is a record
// of the CRI log format:
//
//	2026-11-22T11:40:47.123456789Z stdout F text
//
// A [Reader] shows them as one log: it starts in the oldest file that can matter, goes
// on through the newer ones, and follows the newest over its rotations.
//
//	          end of file,                    another file bears
//	          nothing newer                   the name now
//	reading ───────────────► waiting ───────────────────────────► reading the rest,
//	   ▲                        │  inotify                        then the next file
//	   └────────────────────────┘
package logs
