package network

import "fmt"

// PortInUseError says that a host port cannot be had, and who has it. It is not final: a
// port may become free.
type PortInUseError struct {
	Port     uint16
	Protocol string // tcp or udp
	Holder   string // in words: "container 4f0c…-0", "service web", "nginx (pid 812) on the host"
}

func (e *PortInUseError) Error() string {
	return fmt.Sprintf("host port %d/%s is in use by %s", e.Port, e.Protocol, e.Holder)
}
