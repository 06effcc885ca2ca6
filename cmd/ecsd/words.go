package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecsd/pkg/spec"
)

// shortID is a task's id as tables show it.
func shortID(id string) string { return id[:min(12, len(id))] }

// age is a duration in at most two units, as kubectl shows it.
func age(d time.Duration) string {
	s := int(d / time.Second)
	switch {
	case s < 0:
		return "0s"
	case s < 120:
		return strconv.Itoa(s) + "s"
	case s < 600 && s%60 != 0:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 7200:
		return strconv.Itoa(s/60) + "m"
	case s < 8*3600 && s%3600/60 != 0:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	case s < 48*3600:
		return strconv.Itoa(s/3600) + "h"
	}
	return strconv.Itoa(s/86400) + "d"
}

// since is the age of a moment, "" when it never came.
func since(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return age(now.Sub(*t))
}

// definition is a task definition as users name it, family:revision.
func definition(family string, n int) string { return family + ":" + strconv.Itoa(n) }

// definitionName is the family:revision that a task definition's ARN ends in.
func definitionName(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// ports are a task's published ports, each once: with their addresses, as docker shows
// them, or short, without the addresses that mean any.
func ports(t spec.TaskStatus, full bool) string {
	var out []string
	for _, c := range t.Containers {
		for _, b := range c.NetworkBindings {
			from, to := strconv.Itoa(b.HostPort), strconv.Itoa(b.ContainerPort)
			if b.ContainerPortRange != "" {
				from, to = b.HostPortRange, b.ContainerPortRange
			}
			p := from + "->" + to + "/" + b.Protocol
			switch ip := b.BindIP; {
			case ip == "", !full && (ip == "0.0.0.0" || ip == "::"):
			case strings.Contains(ip, ":"):
				p = "[" + ip + "]:" + p
			default:
				p = ip + ":" + p
			}
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return strings.Join(out, ", ")
}

// addresses are a task's addresses, each once.
func addresses(t spec.TaskStatus) string {
	var out []string
	for _, c := range t.Containers {
		for _, n := range c.NetworkInterfaces {
			for _, a := range []string{n.PrivateIPv4Address, n.IPv6Address} {
				if a != "" && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	}
	return strings.Join(out, ", ")
}

// reason is why a task is as it is: why it stopped and how its containers ended, or what
// it waits for.
func reason(t spec.TaskStatus) string {
	if t.LastStatus != spec.StatusStopped {
		if t.Waiting == "" {
			return t.StoppedReason
		}
		return t.Waiting
	}
	parts := []string{}
	if t.StoppedReason != "" {
		parts = append(parts, t.StoppedReason)
	}
	for _, c := range t.Containers {
		switch {
		case c.Reason != "":
			parts = append(parts, c.Name+": "+c.Reason)
		case c.ExitCode != nil && *c.ExitCode != 0:
			parts = append(parts, c.Name+": exit code "+strconv.Itoa(*c.ExitCode))
		}
	}
	return strings.Join(parts, "; ")
}
