package agent

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"gopkg.in/natefinch/lumberjack.v2"
)

// newLogger writes to standard error and to <log dir>/ecsd-agent.log, which is rotated.
func newLogger(c Config) (*slog.Logger, io.Closer) {
	file := &lumberjack.Logger{
		Filename:   filepath.Join(c.LogDir, "ecsd-agent.log"),
		MaxSize:    c.LogMaxSizeMB,
		MaxBackups: c.LogMaxFiles,
	}
	out := io.MultiWriter(os.Stderr, failSafe{file})
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, options)), file
	}
	return slog.New(slog.NewTextHandler(out, options)), file
}

// failSafe reports every write as done: a full disk must not cost the lines on standard
// error, nor anything else.
type failSafe struct{ io.Writer }

func (w failSafe) Write(p []byte) (int, error) {
	_, _ = w.Writer.Write(p)
	return len(p), nil
}
