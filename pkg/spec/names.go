package spec

import (
	"regexp"
	"strconv"
	"strings"
)

// maxName is the length of the longest family, service, container and volume name.
const maxName = 255

// validName tells what ECS takes for a family, service, container or volume name: 1 to
// 255 letters, digits, hyphens and underscores.
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// nameRule ends the error about a name that validName refuses.
const nameRule = "a name has 1 to 255 letters, digits, hyphens and underscores"

// validPortName tells a name of a port mapping: at most 64 of a-z, 0-9, _ and -, not
// beginning with a hyphen.
var validPortName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,63}$`).MatchString

// validHostname tells a name the kernel and resolvers take: RFC 1123 labels, at most 64
// characters in all as sethostname wants it.
var validHostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$`).MatchString

// ParseTaskDefinitionRef splits what a service's taskDefinition says: a family, a
// family:revision, or an ARN that ends in task-definition/family:revision. revision is 0
// when none is named, which means the newest. ok is false for anything else.
func ParseTaskDefinitionRef(ref string) (family string, revision int, ok bool) {
	if strings.HasPrefix(ref, "arn:") {
		parts := strings.SplitN(ref, ":", 6)
		if len(parts) != 6 || parts[2] != "ecs" {
			return "", 0, false
		}
		if ref, ok = strings.CutPrefix(parts[5], "task-definition/"); !ok {
			return "", 0, false
		}
	}
	family, number, numbered := strings.Cut(ref, ":")
	if numbered {
		var err error
		if revision, err = strconv.Atoi(number); err != nil || !plainDecimal(number) || revision < 1 {
			return "", 0, false
		}
	}
	return family, revision, validName(family)
}
