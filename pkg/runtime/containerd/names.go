package containerd

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxFileName leaves room for ".log.10" within the 255 bytes that file systems allow.
const maxFileName = 200

// fileName turns a name into one that is fit for a file: names that are too long are cut
// and get eight hex digits of their hash, so that they stay distinct. ECS names have only
// letters, digits, hyphens and underscores; should one have more, it is hashed too.
func fileName(name string) string {
	plain := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			return c
		}
		return '_'
	}, name)
	if plain == name && len(name) <= maxFileName && strings.Trim(name, ".") != "" {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	if len(plain) > maxFileName {
		plain = plain[:maxFileName]
	}
	return plain + "-" + hex.EncodeToString(sum[:4])
}
