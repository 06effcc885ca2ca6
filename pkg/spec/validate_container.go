package spec

import (
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// Limits that ECS and containerd document for a container.
const (
	maxImage        = 255
	maxIgnoredCodes = 50
	maxLabel        = 4096 // key and value of a containerd label, bytes
	maxTimeout      = 24 * 60 * 60
)

// reservedLabels are prefixes of labels that say who a container is.
var reservedLabels = []string{"com.amazonaws.ecs.", "containerd.io/", "ecsd/"}

// container checks what concerns one container alone. p is its path.
func (v *validation) container(td TaskDefinition, c ContainerDefinition, p string) {
	v.name(p+".name", c.Name, "Container.name should not be null or empty.")
	for i := range td.ContainerDefinitions {
		if other := &td.ContainerDefinitions[i]; other.Name == c.Name && c.Name != "" {
			if first := at("containerDefinitions", i); first != p {
				v.fail(p+".name", "%s is the name of %s too: names are unique in a task", shown(c.Name), first)
			}
			break
		}
	}
	v.image(c.Image, p+".image")
	v.oneOf(p+".versionConsistency", c.VersionConsistency, "enabled", "disabled")
	v.between(p+".startTimeout", c.StartTimeout, 1, maxTimeout, " seconds")
	v.between(p+".stopTimeout", c.StopTimeout, 1, maxTimeout, " seconds")
	v.user(c.User, p+".user")
	v.workingDirectory(c.WorkingDirectory, p+".workingDirectory")
	v.environment(c, p)
	v.labels(c.DockerLabels, p+".dockerLabels")
	v.names(c, p)
	v.restartPolicy(c.RestartPolicy, p+".restartPolicy")
	v.healthCheck(c.HealthCheck, p+".healthCheck")
	v.logging(td, c, p)
	v.mountPoints(td, c, p)
	v.linux(td, c, p)
	for i, r := range c.ResourceRequirements {
		v.oneOf(at(p+".resourceRequirements", i)+".type", r.Type, "GPU", "InferenceAccelerator")
	}
}

// ociArchive begins the reference of an image in a file.
const ociArchive = "oci-archive:"

// image checks an image reference: oci-archive: with an absolute path, or what Docker
// takes for a name.
func (v *validation) image(image, p string) {
	file, isFile := strings.CutPrefix(image, ociArchive)
	switch {
	case image == "":
		v.fail(p, "Container.image should not be null or empty.")
	case isFile && (!path.IsAbs(file) || path.Clean(file) != file || file == "/"):
		v.fail(p, "%s: after %s comes the absolute path of a tar file", shown(image), ociArchive)
	case isFile:
	case len(image) > maxImage:
		v.fail(p, "has %d characters: at most %d are allowed", len(image), maxImage)
	default:
		if _, err := reference.ParseNormalizedNamed(image); err != nil {
			v.fail(p, "%s is not an image reference: %v", shown(image), err)
		}
	}
}

// user checks the six forms of a user; whether the image has the names is seen at start.
func (v *validation) user(user, p string) {
	if user == "" {
		return
	}
	parts := strings.Split(user, ":")
	if len(parts) > 2 {
		v.fail(p, "%s has more than one colon: use user, uid, user:group, uid:gid, uid:group or user:gid", shown(user))
		return
	}
	for _, s := range parts {
		switch _, numeric, err := parseID(s); {
		case err != nil:
			v.fail(p, "%s: %v", shown(user), err)
		case numeric:
		case s == "" || s[0] == '-' || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' }):
			v.fail(p, "%s is not a user: use user, uid, user:group, uid:gid, uid:group or user:gid", shown(user))
		}
	}
}

func (v *validation) workingDirectory(dir, p string) {
	switch {
	case dir == "":
	case !path.IsAbs(dir):
		v.fail(p, "%s must be an absolute path", shown(dir))
	case within(dir, "/proc"):
		v.fail(p, "%s is in /proc: a process must not start there, for it may lead out of the container", shown(dir))
	}
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	p = path.Clean(p)
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func (v *validation) environment(c ContainerDefinition, p string) {
	seen := map[string]bool{}
	for i, e := range c.Environment {
		ep := at(p+".environment", i)
		v.variable(e.Name, ep+".name", seen)
		if strings.IndexByte(e.Value, 0) >= 0 {
			v.fail(ep+".value", "holds a NUL character")
		}
	}
	for i, s := range c.Secrets {
		v.variable(s.Name, at(p+".secrets", i)+".name", seen)
	}
}

// variable checks a variable's name, and that it is given once.
func (v *validation) variable(name, p string, seen map[string]bool) {
	switch {
	case name == "":
		v.fail(p, "must not be empty")
	case strings.ContainsAny(name, "=\x00"):
		v.fail(p, "%s: the name of a variable has neither = nor NUL in it", shown(name))
	case seen[name]:
		v.fail(p, "the variable %s is set twice", shown(name))
	}
	seen[name] = true
}

func (v *validation) labels(labels map[string]string, p string) {
	for _, k := range sortedKeys(labels) {
		kp := p + "[" + strconv.Quote(k) + "]"
		if k == "" {
			v.fail(p, "a label's key must not be empty")
		}
		if n := len(k) + len(labels[k]); n > maxLabel {
			v.fail(kp, "has %d bytes, key and value together: containerd takes at most %d", n, maxLabel)
		}
		for _, prefix := range reservedLabels {
			if strings.HasPrefix(k, prefix) {
				v.fail(kp, "the prefix %s is reserved", prefix)
			}
		}
	}
}

// names checks the container's own name in the network and those it knows of others.
func (v *validation) names(c ContainerDefinition, p string) {
	if c.Hostname != "" && (len(c.Hostname) > maxHostname || !validHostname(c.Hostname)) {
		v.fail(p+".hostname", "%s is not a host name: at most %d letters, digits, hyphens and dots", shown(c.Hostname), maxHostname)
	}
	for i, s := range c.DNSServers {
		if _, err := netip.ParseAddr(s); err != nil {
			v.fail(at(p+".dnsServers", i), "%s is not an IP address", shown(s))
		}
	}
	for i, s := range c.DNSSearchDomains {
		if s != "." && (len(s) > maxName || !validHostname(strings.ReplaceAll(s, "_", "-"))) {
			v.fail(at(p+".dnsSearchDomains", i), "%s is not a domain", shown(s))
		}
	}
	for i, h := range c.ExtraHosts {
		hp := at(p+".extraHosts", i)
		if h.Hostname == "" || strings.ContainsFunc(h.Hostname, func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }) {
			v.fail(hp+".hostname", "%s is not a host name", shown(h.Hostname))
		}
		if _, err := netip.ParseAddr(h.IPAddress); err != nil {
			v.fail(hp+".ipAddress", "%s is not an IP address", shown(h.IPAddress))
		}
	}
}

func (v *validation) restartPolicy(r *RestartPolicy, p string) {
	if r == nil {
		return
	}
	if r.Enabled == nil {
		v.fail(p+".enabled", "is missing: it must be true or false")
	}
	v.between(p+".restartAttemptPeriod", r.RestartAttemptPeriod, 60, 1800, " seconds")
	if n := len(r.IgnoredExitCodes); n > maxIgnoredCodes {
		v.fail(p+".ignoredExitCodes", "has %d codes: at most %d are allowed", n, maxIgnoredCodes)
	}
	for i, code := range r.IgnoredExitCodes {
		v.between(at(p+".ignoredExitCodes", i), &code, 0, 255, "")
	}
}

func (v *validation) healthCheck(h *HealthCheck, p string) {
	if h == nil {
		return
	}
	switch {
	case len(h.Command) == 0:
		v.fail(p+".command", "must not be empty: it begins with CMD, CMD-SHELL or NONE")
	case h.Command[0] == "NONE":
		if len(h.Command) > 1 {
			v.fail(p+".command", "NONE takes no arguments")
		}
	case h.Command[0] != "CMD" && h.Command[0] != "CMD-SHELL":
		v.fail(at(p+".command", 0), "must be CMD, CMD-SHELL or NONE, not %s", shown(h.Command[0]))
	case len(h.Command) == 1:
		v.fail(p+".command", "has nothing to run after %s", h.Command[0])
	case h.Command[0] == "CMD-SHELL" && len(h.Command) > 2:
		v.fail(p+".command", "CMD-SHELL takes one command line: quote it as one string, or use CMD")
	}
	v.between(p+".interval", h.Interval, 5, 300, " seconds")
	v.between(p+".timeout", h.Timeout, 2, 60, " seconds")
	v.between(p+".retries", h.Retries, 1, 10, "")
	v.between(p+".startPeriod", h.StartPeriod, 0, 300, " seconds")
}

// logDrivers are those of ECS, and Docker's none.
var logDrivers = []string{"json-file", "none", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "awsfirelens"}

// knownLogOptions are Docker's for json-file, and those that every driver has.
var knownLogOptions = []string{
	"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size",
}

func (v *validation) logging(td TaskDefinition, c ContainerDefinition, p string) {
	if f := c.FirelensConfiguration; f != nil {
		if f.Type == "" {
			v.fail(p+".firelensConfiguration.type", "is missing: it must be fluentd or fluentbit")
		}
		v.oneOf(p+".firelensConfiguration.type", f.Type, "fluentd", "fluentbit")
		router := slices.IndexFunc(td.ContainerDefinitions, func(c ContainerDefinition) bool { return c.FirelensConfiguration != nil })
		if first := at("containerDefinitions", router); first != p {
			v.fail(p+".firelensConfiguration", "%s has one already: a task has one log router", first)
		}
	}
	l := c.LogConfiguration
	if l == nil {
		return
	}
	p += ".logConfiguration"
	switch {
	case l.LogDriver == "":
		v.fail(p+".logDriver", "is missing: it must be json-file or none")
	case !slices.Contains(logDrivers, l.LogDriver):
		v.fail(p+".logDriver", "%s is not a log driver: use json-file or none", shown(l.LogDriver))
	case l.LogDriver != "json-file" && l.LogDriver != "none":
		v.fail(p+".logDriver", "not carried out yet: log driver %s; use json-file, and ship the files of the log directory", l.LogDriver)
	case l.LogDriver == "json-file":
		v.logOptions(l.Options, p+".options")
	}
}

// logOptions checks Docker's options of json-file: those that are not carried out must at
// least exist.
func (v *validation) logOptions(options map[string]string, p string) {
	for _, k := range sortedKeys(options) {
		kp, value := p+"["+strconv.Quote(k)+"]", options[k]
		switch {
		case !slices.Contains(knownLogOptions, k):
			v.fail(kp, "unknown log opt '%s' for json-file log driver", k)
		case k == "max-size" && !validLogSize(value):
			v.fail(kp, "%s is not a size: write a number above 0 with k, m or g, or -1 for no limit", shown(value))
		case k == "max-file":
			_, sized := options["max-size"]
			if n, err := strconv.Atoi(value); err != nil || !plainDecimal(value) || n < 1 || n > 1000 {
				v.fail(kp, "must be between 1 and 1000 files, not %s", shown(value))
			} else if n > 1 && !sized {
				v.fail(kp, "needs max-size beside it: without a size nothing is ever rotated")
			}
		case k == "mode" && value != "blocking" && value != "non-blocking":
			v.fail(kp, "must be blocking or non-blocking, not %s", shown(value))
		}
	}
}

// validLogSize tells Docker's sizes in whole numbers: 10m, 512k, 1g, 1048576, in any case,
// with b or ib after the unit; -1 for no limit.
var validLogSize = regexp.MustCompile(`(?i)^(-1|[1-9][0-9]{0,9} ?(b|[kmg]i?b?)?)$`).MatchString
