package localapi

import (
	"strings"

	"ecsd/pkg/spec"
)

// Masked stands in an answer for a value that is not told.
const Masked = "***"

// Mask is a copy of a definition that may be shown: the value of every environment
// variable is masked, and that of a log option that is named like a secret. Its names stay,
// so that one sees what is set. What the definition refers to (secrets, files) is a
// reference only and stays too.
func Mask(td spec.TaskDefinition) spec.TaskDefinition {
	containers := make([]spec.ContainerDefinition, len(td.ContainerDefinitions))
	for i, c := range td.ContainerDefinitions {
		if c.Environment != nil {
			env := make([]spec.KeyValuePair, len(c.Environment))
			for j, kv := range c.Environment {
				env[j] = spec.KeyValuePair{Name: kv.Name, Value: Masked}
			}
			c.Environment = env
		}
		if c.LogConfiguration != nil {
			lc := *c.LogConfiguration
			lc.Options = maskOptions(lc.Options)
			c.LogConfiguration = &lc
		}
		if c.FirelensConfiguration != nil {
			fc := *c.FirelensConfiguration
			fc.Options = maskOptions(fc.Options)
			c.FirelensConfiguration = &fc
		}
		containers[i] = c
	}
	td.ContainerDefinitions = containers
	return td
}

func maskOptions(options map[string]string) map[string]string {
	if options == nil {
		return nil
	}
	out := make(map[string]string, len(options))
	for k, v := range options {
		low := strings.ToLower(k)
		for _, word := range []string{"token", "secret", "password", "passwd", "key", "credential"} {
			if strings.Contains(low, word) {
				v = Masked
			}
		}
		out[k] = v
	}
	return out
}
