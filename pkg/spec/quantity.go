package spec

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Bounds of a task's CPU on Linux, in CPU units: 1024 are one core.
const (
	minTaskCPU = 128
	maxTaskCPU = 196608
)

// minMemoryMiB is the least memory a container gets: runc needs it to start at all.
const minMemoryMiB = 6

// maxMemoryMiB bounds amounts of memory: 1 PiB, far above any machine and far below an overflow.
const maxMemoryMiB = 1 << 30

// parseCPU reads the cpu of a task definition: CPU units as a whole number ("256"), or
// virtual CPUs ("1 vCPU", ".5 vCPU", in any case). One vCPU is 1024 units.
func parseCPU(s string) (units int, err error) {
	return parseQuantity(s, "vcpu", "CPU units", `"256", "1 vCPU" or ".5 vCPU"`)
}

// parseMemory reads the memory of a task definition: MiB as a whole number ("512"), or
// gigabytes ("1GB", "0.5 GB", in any case). One GB is 1024 MiB.
func parseMemory(s string) (mib int, err error) {
	return parseQuantity(s, "gb", "MiB", `"512", "1GB" or "0.5 GB"`)
}

// parseQuantity reads a whole number, or a decimal number with a unit worth 1024.
func parseQuantity(s, unit, what, examples string) (int, error) {
	if plainDecimal(s) && s[0] != '-' {
		n, err := strconv.Atoi(s)
		if err != nil || n > maxMemoryMiB {
			return 0, fmt.Errorf("%s is out of range", s)
		}
		return n, nil
	}
	number, ok := strings.CutSuffix(strings.ToLower(s), unit)
	number = strings.TrimRight(number, " ")
	if !ok || !isDecimal(number) {
		return 0, fmt.Errorf("%q is not an amount: write %s", s, examples)
	}
	amount, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q is not an amount: write %s", s, examples)
	}
	amount.Mul(amount, big.NewRat(1024, 1))
	if !amount.IsInt() {
		return 0, fmt.Errorf("%q is no whole number of %s", s, what)
	}
	if n := amount.Num(); n.IsInt64() && n.Int64() <= maxMemoryMiB {
		return int(n.Int64()), nil
	}
	return 0, fmt.Errorf("%q is out of range", s)
}

// isDecimal tells digits with at most one point, as a person writes an amount.
func isDecimal(s string) bool {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(s) > 20 || whole == "" && fraction == "" {
		return false
	}
	return strings.Trim(whole+fraction, "0123456789") == ""
}

// CPUUnits is the task's own cpu in CPU units (1024 are one core), 0 when the definition
// sets none or one that cannot be read.
func (td TaskDefinition) CPUUnits() int {
	units, err := parseCPU(td.CPU)
	if err != nil {
		return 0
	}
	return units
}

// MemoryMiB is the task's own memory in MiB, 0 when the definition sets none or one that
// cannot be read.
func (td TaskDefinition) MemoryMiB() int {
	mib, err := parseMemory(td.Memory)
	if err != nil {
		return 0
	}
	return mib
}

// ReservedCPU is what admission sets aside for the task, in CPU units: its own cpu, or
// else the sum of its containers'. 0 reserves nothing, as on ECS.
func (td TaskDefinition) ReservedCPU() int {
	if units := td.CPUUnits(); units > 0 {
		return units
	}
	sum := 0
	for _, c := range td.ContainerDefinitions {
		sum += c.CPU
	}
	return sum
}

// ReservedMemoryMiB is what admission sets aside for the task, in MiB: the task's own
// memory, which is a hard limit on all its containers together, or else the sum over its
// containers of memoryReservation, or memory where there is none.
func (td TaskDefinition) ReservedMemoryMiB() int {
	if mib := td.MemoryMiB(); mib > 0 {
		return mib
	}
	sum := 0
	for _, c := range td.ContainerDefinitions {
		sum += c.reservedMemory()
	}
	return sum
}

func (c ContainerDefinition) reservedMemory() int {
	if c.MemoryReservation > 0 {
		return c.MemoryReservation
	}
	return c.Memory
}
