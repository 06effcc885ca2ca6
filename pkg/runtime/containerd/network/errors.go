package network

import "fmt"

// PortInUseError says that a host port cannot be had, and who has it.
type PortInUseError struct {
	Port     uint16
	Protocol string
	Holder   string // in words: "task 4f0c…", "service web", "nginx (pid 812)", "ECS_RESERVED_PORTS"
}

func (e *PortInUseError) Error() string {
	return fmt.Sprintf("host port %d/%s is in use by %s", e.Port, e.Protocol, e.Holder)
}
