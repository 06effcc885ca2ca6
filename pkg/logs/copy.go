package logs

import (
	"context"
	"errors"
	"io"
)

// Copy writes the lines of r to w until r ends, which is no error, or ctx does. clean,
// when not nil, rewrites each text first; [Sanitize] is for terminals.
func Copy(ctx context.Context, w io.Writer, r *Reader, timestamps bool, clean func(b, text []byte) []byte) error {
	var out, text []byte
	more := map[string]bool{} // by stream: the line before goes on
	for {
		l, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if clean != nil {
			text = clean(text[:0], l.Text)
			l.Text = text
		}
		out = l.Append(out[:0], timestamps && !more[l.Stream])
		more[l.Stream] = l.More
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
}
