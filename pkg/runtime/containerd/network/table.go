package network

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// contents is everything that changes in the table.
type contents struct {
	published map[string][]mapping  // by attachment id
	services  map[hostPort]backends // an empty one refuses
	opened4   []string              // interfaces on which forwarding is on for our sake alone
	opened6   []string
}

// table keeps one nftables table as contents want it. A change is one batch, which the
// kernel applies as a whole or not at all. When the kernel does not agree with what the
// table should hold (somebody flushed the rule set), the change becomes a replacement of
// the whole table, which established connections survive.
type table struct {
	layout layout
	v6     bool // the host has IPv6

	mu   sync.Mutex // guards all below, and orders the batches
	line *line      // to the kernel; nil: not open
	want contents
	seen uint32 // generation of the kernel's rule set at which the table was last found whole; 0: never
}

func newTable(l layout, v6 bool) *table {
	return &table{layout: l, v6: v6, want: contents{published: map[string][]mapping{}, services: map[hostPort]backends{}}}
}

var setIDs atomic.Uint32 // identifies sets within a batch

// batch collects the messages of one transaction.
type batch struct {
	*nftables.Conn
	t *nftables.Table
}

// batch begins a transaction, on a line that stays open: closing one makes the kernel
// finish what it has still to free, which takes 10 ms after a deletion.
func (t *table) batch() (batch, error) {
	if t.line == nil {
		l, err := dial()
		if err != nil {
			return batch{}, fmt.Errorf("nftables: %w", err)
		}
		t.line = l
	}
	return batch{t.line.Conn, &nftables.Table{Name: t.layout.table, Family: nftables.TableFamilyINet}}, nil
}

// hangUp closes the line. After an error there may be answers on it that nobody has read.
func (t *table) hangUp() {
	if t.line != nil {
		t.line.close()
		t.line = nil
	}
}

func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hangUp()
}

// maxElements is how many elements go into one message: their list is an attribute, which
// cannot be longer than 64 KiB.
const maxElements = 400

func (b batch) addElements(s *nftables.Set, es []nftables.SetElement) error {
	for part := range slices.Chunk(es, maxElements) {
		if err := b.SetAddElements(s, part); err != nil {
			return err
		}
	}
	return nil
}

func (b batch) deleteElements(s *nftables.Set, es []nftables.SetElement) error {
	for part := range slices.Chunk(es, maxElements) {
		if err := b.SetDeleteElements(s, part); err != nil {
			return err
		}
	}
	return nil
}

// setContents gives the whole contents at once. It replaces the table, unless an earlier
// life of the agent left it just so.
func (t *table) setContents(c contents) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want = c
	if t.verifyLocked() == nil {
		return nil
	}
	return t.replace()
}

// publish adds the ports of an attachment. Published already it does nothing.
func (t *table) publish(id string, ms []mapping) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(ms) == 0 || slices.Equal(t.want.published[id], ms) {
		return nil
	}
	if _, other := t.want.published[id]; other {
		t.want.published[id] = ms
		return t.replace()
	}
	t.want.published[id] = ms
	return t.change(func(b batch) error {
		e4, e6 := pubElements(ms)
		return errors.Join(
			b.addElements(ipv4.pubMap(b.t, mapPub4), e4),
			b.addElements(ipv6.pubMap(b.t, mapPub6), e6))
	})
}

// unpublish takes the ports of an attachment out: established connections go on, new ones
// are refused.
func (t *table) unpublish(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	ms := t.want.published[id]
	delete(t.want.published, id)
	if len(ms) == 0 {
		return nil
	}
	return t.change(func(b batch) error {
		e4, e6 := pubElements(ms)
		return errors.Join(
			b.deleteElements(ipv4.pubMap(b.t, mapPub4), e4),
			b.deleteElements(ipv6.pubMap(b.t, mapPub6), e6))
	})
}

// setServices changes service ports, all in one batch. A nil value closes the port.
func (t *table) setServices(changes map[hostPort]backends) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := maps.Clone(t.want.services)
	for p, b := range changes {
		if have, is := before[p]; is == (b != nil) && slices.Equal(have, b) {
			delete(changes, p)
		} else if b == nil {
			delete(t.want.services, p)
		} else {
			t.want.services[p] = b
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return t.change(func(b batch) error {
		for p, to := range changes {
			have, is := before[p]
			if is {
				if err := b.removeService(p, have, to == nil); err != nil {
					return err
				}
			}
			if to != nil {
				if err := b.addService(t.layout, t.v6, p, to, !is); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// addService fills the chain of a service port, and leads to it when it is new.
func (b batch) addService(l layout, v6 bool, p hostPort, to backends, isNew bool) error {
	c := b.AddChain(&nftables.Chain{Name: serviceChain(p), Table: b.t})
	for _, r := range serviceRules(l, v6, to) {
		b.AddRule(&nftables.Rule{Table: b.t, Chain: c, Exprs: r.exprs, UserData: r.userData()})
	}
	if len(to) == 0 {
		if err := b.addElements(refusedSet(b.t), []nftables.SetElement{{Key: p.key()}}); err != nil {
			return err
		}
	}
	if !isNew {
		return nil
	}
	return b.addElements(servicesMap(b.t), serviceElements(p))
}

// removeService empties the chain of a service port, and with whole takes it away.
func (b batch) removeService(p hostPort, have backends, whole bool) error {
	c := &nftables.Chain{Name: serviceChain(p), Table: b.t}
	if whole {
		if err := b.deleteElements(servicesMap(b.t), serviceElements(p)); err != nil {
			return err
		}
	}
	b.FlushChain(c)
	if whole {
		b.DelChain(c)
	}
	if len(have) == 0 {
		return b.deleteElements(refusedSet(b.t), []nftables.SetElement{{Key: p.key()}})
	}
	return nil
}

// setOpened changes the interfaces on which forwarding is on for our sake alone.
func (t *table) setOpened(v4, v6 []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(t.want.opened4, v4) && slices.Equal(t.want.opened6, v6) {
		return nil
	}
	t.want.opened4, t.want.opened6 = v4, v6
	return t.change(func(b batch) error {
		for name, ifs := range map[string][]string{setOpened4: v4, setOpened6: v6} {
			s := openedSet(b.t, name)
			b.FlushSet(s)
			if err := b.addElements(s, ifnameElements(ifs)); err != nil {
				return err
			}
		}
		return nil
	})
}

// change applies one batch; when the kernel refuses it, the whole table.
func (t *table) change(fill func(batch) error) error {
	b, err := t.batch()
	if err != nil {
		return err
	}
	if err = fill(b); err == nil {
		if err = b.Flush(); err == nil {
			// Found whole before, and nobody but us changed anything since: whole still.
			if gen, err := t.line.generation(); err == nil && t.seen != 0 && gen == t.seen+1 {
				t.seen = gen
			}
			return nil
		}
	}
	t.hangUp()
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("nftables table inet %s: %w (ecsd must run as root)", t.layout.table, err)
	}
	return t.replace()
}

// replace makes the table anew with all that it should hold, in one batch.
func (t *table) replace() (err error) {
	t.seen = 0
	b, err := t.batch()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			t.hangUp()
		}
	}()
	// Deleting what is not there would fail the batch, so it is made first.
	b.AddTable(b.t)
	b.DelTable(b.t)
	b.AddTable(b.t)
	for _, s := range t.want.sets(b.t) {
		if err := b.AddSet(s.set, nil); err != nil {
			return err
		}
	}
	policy := nftables.ChainPolicyAccept
	cs := chains(t.layout)
	for _, c := range cs {
		nc := &nftables.Chain{Name: c.name, Table: b.t, Type: c.kind, Hooknum: c.hook, Priority: c.priority}
		if c.hook != nil {
			nc.Policy = &policy
		}
		b.AddChain(nc)
	}
	b.AddChain(&nftables.Chain{Name: marker(cs), Table: b.t})
	for p, to := range t.want.services {
		if err := b.addService(t.layout, t.v6, p, to, false); err != nil {
			return err
		}
	}
	for _, c := range cs {
		for _, r := range c.rules {
			b.AddRule(&nftables.Rule{Table: b.t, Chain: &nftables.Chain{Name: c.name, Table: b.t}, Exprs: r})
		}
	}
	for _, s := range t.want.sets(b.t) {
		if s.set.Name == setRefused {
			continue // filled with the services
		}
		if err := b.addElements(s.set, s.elements); err != nil {
			return err
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("nftables table inet %s: %w (does the kernel have nf_tables with NAT?)", t.layout.table, err)
	}
	return nil
}

// sets lists the maps and sets of the table with what is in them.
func (c contents) sets(t *nftables.Table) []filledSet {
	var e4, e6 []nftables.SetElement
	for _, ms := range c.published {
		a, b := pubElements(ms)
		e4, e6 = append(e4, a...), append(e6, b...)
	}
	var services, refused []nftables.SetElement
	for p, to := range c.services {
		services = append(services, serviceElements(p)...)
		if len(to) == 0 {
			refused = append(refused, nftables.SetElement{Key: p.key()})
		}
	}
	out := []filledSet{
		{ipv4.pubMap(t, mapPub4), e4},
		{ipv6.pubMap(t, mapPub6), e6},
		{servicesMap(t), services},
		{refusedSet(t), refused},
		{openedSet(t, setOpened4), ifnameElements(c.opened4)},
		{openedSet(t, setOpened6), ifnameElements(c.opened6)},
	}
	for _, s := range out {
		s.set.ID = setIDs.Add(1)
	}
	return out
}

// verify compares the kernel's table with what it should hold and says what differs; nil
// when nothing does. While nobody changed any nftables rule on the machine it costs one
// short system call.
func (t *table) verify() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verifyLocked()
}

// repair puts the table back when it differs, and reports whether it did.
func (t *table) repair() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.verifyLocked() == nil {
		return false, nil
	}
	return true, t.replace()
}

func (t *table) verifyLocked() error {
	b, err := t.batch()
	if err != nil {
		return err
	}
	gen, err := t.line.generation()
	if err != nil {
		return err
	}
	if t.seen != 0 && gen == t.seen {
		return nil
	}
	if err := t.compare(b); err != nil {
		t.hangUp()
		return err
	}
	t.seen = gen
	return nil
}

func (t *table) compare(b batch) error {
	missing := func(what string) error {
		return fmt.Errorf("nftables table inet %s: %s is not as it should be", t.layout.table, what)
	}
	if _, err := b.ListChain(b.t, marker(chains(t.layout))); err != nil {
		return missing("its version")
	}
	for _, c := range chains(t.layout) {
		rules, err := b.GetRules(b.t, &nftables.Chain{Name: c.name, Table: b.t})
		if err != nil || len(rules) != len(c.rules) {
			return missing("chain " + c.name)
		}
	}
	for p, to := range t.want.services {
		rules, err := b.GetRules(b.t, &nftables.Chain{Name: serviceChain(p), Table: b.t})
		same := func(have *nftables.Rule, want serviceRule) bool { return bytes.Equal(have.UserData, want.userData()) }
		if err != nil || !slices.EqualFunc(rules, serviceRules(t.layout, t.v6, to), same) {
			return missing("chain " + serviceChain(p))
		}
	}
	for _, s := range t.want.sets(b.t) {
		have, err := b.GetSetElements(s.set)
		if err != nil || !sameElements(have, s.elements) {
			return missing("set " + s.set.Name)
		}
	}
	return nil
}

func sameElements(have, want []nftables.SetElement) bool {
	if len(have) != len(want) {
		return false
	}
	index := make(map[string][]byte, len(have))
	for _, e := range have {
		index[string(e.Key)] = e.Val
	}
	for _, e := range want {
		v, is := index[string(e.Key)]
		if !is || e.VerdictData == nil && !bytes.Equal(v, e.Val) {
			return false
		}
	}
	return true
}

// remove takes the table away. Not there it does nothing.
func (t *table) remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.batch()
	if err != nil {
		return err
	}
	b.AddTable(b.t)
	b.DelTable(b.t)
	return b.Flush()
}

// openedNow reads from the kernel which interfaces an earlier run of the agent opened.
func (t *table) openedNow() (v4, v6 []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.hangUp() // there may be no table
	b, err := t.batch()
	if err != nil {
		return nil, nil
	}
	read := func(name string) (out []string) {
		es, _ := b.GetSetElements(openedSet(b.t, name)) // no table: nothing was opened
		for _, e := range es {
			out = append(out, string(bytes.TrimRight(e.Key, "\x00")))
		}
		slices.Sort(out)
		return out
	}
	return read(setOpened4), read(setOpened6)
}

func pubElements(ms []mapping) (e4, e6 []nftables.SetElement) {
	for _, m := range ms {
		e4 = append(e4, nftables.SetElement{Key: m.key(), Val: target(m.to4)})
		if m.to6.IsValid() {
			e6 = append(e6, nftables.SetElement{Key: m.key(), Val: target(m.to6)})
		}
	}
	return e4, e6
}

func ifnameElements(names []string) []nftables.SetElement {
	out := make([]nftables.SetElement, 0, len(names))
	for _, n := range names {
		out = append(out, nftables.SetElement{Key: ifname(n)})
	}
	return out
}

// opened returns the interfaces on which forwarding is on for our sake alone.
func (t *table) opened() (v4, v6 []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want.opened4, t.want.opened6
}

// leads says to whom ports of the host lead, in both families; nobody: to nil.
func (t *table) leads(ports map[hostPort]bool) map[uint16][]netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[uint16][]netip.AddrPort{}
	for p := range ports {
		out[p.port] = nil
		for _, b := range t.want.services[p] {
			out[p.port] = append(out[p.port], ipv4.reach(t.layout, b), ipv6.reach(t.layout, b))
		}
	}
	for _, ms := range t.want.published {
		for _, m := range ms {
			if ports[m.hostPort] {
				out[m.port] = append(out[m.port], m.to4, m.to6)
			}
		}
	}
	return out
}
