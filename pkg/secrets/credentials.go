package secrets

import (
	"fmt"
	"log/slog"
)

// Credentials identify us to a registry. The zero value is anonymous. Its fields are
// those of runtime.Auth, so runtime.Auth(c) is all that hands them on.
//
// However it is printed, logged or marshalled, it shows only whether there is something.
type Credentials struct {
	Username, Password string
	IdentityToken      string // an OAuth2 refresh token, in place of a password
}

const redacted = "[redacted]"

// IsZero reports whether there is nothing to identify us with.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// String shows no secret, and not the user either.
func (c Credentials) String() string {
	if c.IsZero() {
		return "anonymous"
	}
	return redacted
}

// GoString is what %#v prints.
func (c Credentials) GoString() string { return "secrets.Credentials(" + c.String() + ")" }

// Format answers every verb, also those that would reach the fields (%d, %x).
func (c Credentials) Format(f fmt.State, verb rune) {
	s := c.String()
	if verb == 'v' && f.Flag('#') {
		s = c.GoString()
	}
	_, _ = f.Write([]byte(s))
}

// LogValue is what slog logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is what encoders that know no JSON write.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalJSON writes a string, never the fields.
func (c Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }
