package logs

import (
	"maps"
	"strings"
	"testing"

	"ecsd/pkg/logs/writer"
	"ecsd/pkg/spec"
)

func TestRotationOf(t *testing.T) {
	type opts = map[string]string
	for name, c := range map[string]struct {
		conf *spec.LogConfiguration
		want Rotation
		err  string
	}{
		"none":            {nil, Default, ""},
		"no options":      {&spec.LogConfiguration{LogDriver: "json-file"}, Default, ""},
		"both":            {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "10m", "max-file": "3"}}, Rotation{10 << 20, 3}, ""},
		"size only":       {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "1G"}}, Rotation{1 << 30, 1}, ""},
		"plain number":    {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "4096"}}, Rotation{4096, 1}, ""},
		"unlimited":       {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "-1"}}, Rotation{0, 1}, ""},
		"local, count":    {&spec.LogConfiguration{LogDriver: "local", Options: opts{"max-file": "2"}}, Rotation{Default.MaxSize, 2}, ""},
		"another driver":  {&spec.LogConfiguration{LogDriver: "awslogs", Options: opts{"max-size": "x"}}, Default, ""},
		"zero":            {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "0"}}, Default, "max-size"},
		"no number":       {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "many"}}, Default, "max-size"},
		"negative":        {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "-5m"}}, Default, "max-size"},
		"too large":       {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "99999999999g"}}, Default, "max-size"},
		"fraction":        {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "1.5m"}}, Default, "max-size"},
		"no files":        {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-size": "1m", "max-file": "0"}}, Default, "max-file"},
		"count, no size":  {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-file": "3"}}, Default, "max-size"},
		"path in options": {&spec.LogConfiguration{LogDriver: "json-file", Options: opts{"max-file": "../../x"}}, Default, "max-file"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := RotationOf(c.conf)
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want one that names %q", err, c.err)
			}
		})
	}
}

// What this package says to the writer, the writer understands.
func TestWriterArgs(t *testing.T) {
	for _, want := range []writer.Options{
		{File: "/l/with blank & sign.log", MaxSize: 5, MaxFile: 7, TTY: true},
		{File: "/l", MaxFile: 1},
	} {
		var args []string
		for k, v := range maps.All(WriterArgs(want.File, Rotation{want.MaxSize, want.MaxFile}, want.TTY)) {
			args = append(args, k, v)
		}
		if got, err := writer.ParseArgs(args); err != nil || got != want {
			t.Errorf("writer got %+v (%v), want %+v", got, err, want)
		}
	}
}

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"plain täxt 日本\tx":          "plain täxt 日本\tx",
		"line\r":                    "line",
		"over\rwrite":               "over^Mwrite",
		"\x1b]0;title\x07":          "^[]0;title^G",
		"\x1b]8;;http://evil\x1b\\": `^[]8;;http://evil^[\`,
		"\x1b[2J":                   "^[[2J",
		"\x1b[1;31mred":             "\x1b[1;31mred\x1b[0m",
		"\x1b[":                     "^[[",
		"\x9b2J":                    `\x9b2J`,
		"\u009b2J":                  "<U+009B>2J",
		"a\u202eb":                  "a<U+202E>b",
		"\x00\x7f\xff":              `^@^?\xff`,
	} {
		if got := string(Sanitize(nil, []byte(in))); got != want {
			t.Errorf("Sanitize(%q) = %q, want %q", in, got, want)
		}
	}
}
