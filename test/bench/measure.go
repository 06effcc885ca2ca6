package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

func measure(ctx context.Context, o options) (r report, err error) {
	dir, err := os.MkdirTemp("", "ecsd-bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	d, err := startContainerd(ctx, dir)
	if err != nil {
		return r, err
	}
	defer d.stop()
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return r, err
	}
	a, err := startAgent(ctx, dir, bin, o.archive, d.address)
	if err != nil {
		b, _ := os.ReadFile(filepath.Join(dir, "agent.log"))
		return r, fmt.Errorf("%w\n%s", err, b)
	}
	defer func() {
		if err != nil {
			b, _ := os.ReadFile(filepath.Join(dir, "agent.log"))
			err = fmt.Errorf("%w\n%s", err, b[max(0, len(b)-4000):])
		}
		a.stop()
	}()
	stamps, err := watchStamps(filepath.Join(dir, "stamps"))
	if err != nil {
		return r, err
	}
	if r.Versions, err = versions(ctx, a); err != nil {
		return r, err
	}

	// One task that stays is the model of the bare client's spec, and warms both up.
	if _, err := a.run("model", "host", "stamp, /stamps/model", 1); err != nil {
		return r, err
	}
	if _, err := stamps.last(ctx, "model", 1); err != nil {
		return r, err
	}
	out, err := a.ecsd(ctx, "ps", "-o", "name")
	if err != nil {
		return r, err
	}
	id := strings.TrimSpace(out)
	id = id[strings.LastIndexByte(id, '/')+1:]
	b, err := newBare(ctx, d.address, namespace, dir, filepath.Join(bin, "ecsd-log"), stamps.dir, id+"-0")
	if err != nil {
		return r, err
	}

	if err := measureStart(ctx, o, &r, a, b, stamps); err != nil {
		return r, err
	}
	if err := measureBurst(ctx, o, &r, a, b, stamps); err != nil {
		return r, err
	}
	if err := a.gone(ctx, "model"); err != nil {
		return r, err
	}
	return r, measureIdle(ctx, o, &r, a, stamps)
}

func versions(ctx context.Context, a *agent) (string, error) {
	out, err := a.ecsd(ctx, "version")
	if err != nil {
		return "", err
	}
	c, err := exec.CommandContext(ctx, "containerd", "--version").Output()
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(out) + "\n" + strings.TrimSpace(string(c)), nil
}

func measureStart(ctx context.Context, o options, r *report, a *agent, b *bare, stamps *stampWatch) error {
	host := series{Method: "ecsd, host"}
	bridge := series{Method: "ecsd, bridge"}
	client := series{Method: "bare client, host"}
	ctr := series{Method: "ctr run, host"}
	for round := range o.rounds + 1 { // the first warms up and does not count
		for _, m := range []*series{&client, &host, &bridge, &ctr} {
			name := fmt.Sprintf("s%d-%d", round, len(m.Method))
			before, clear, err := startOne(ctx, m.Method, name, a, b, stamps.dir)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Method, err)
			}
			first, err := stamps.last(ctx, name, 1)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Method, err)
			}
			if round > 0 {
				m.add(first - before)
			}
			if err := clear(); err != nil {
				return fmt.Errorf("%s: clear away: %w", m.Method, err)
			}
		}
	}
	r.Start = []series{client, host, bridge, ctr}
	return nil
}

// startOne starts one container by the method and returns when it was asked to, and what
// clears it away.
func startOne(ctx context.Context, method, name string, a *agent, b *bare, stampDir string) (time.Duration, func() error, error) {
	switch method {
	case "ecsd, host", "ecsd, bridge":
		before, err := a.run(name, strings.TrimPrefix(method, "ecsd, "), "stamp, /stamps/"+name, 1)
		return before, func() error { return a.gone(ctx, name) }, err
	case "bare client, host":
		before := bootTime()
		running, err := b.start(ctx, name, name)
		return before, func() error { return b.remove(ctx, running) }, err
	}
	info, err := b.client.ContainerService().List(b.ctx(ctx), `labels."com.amazonaws.ecs.task-definition-family"==model`)
	if err != nil || len(info) == 0 {
		return 0, nil, fmt.Errorf("find the model's image: %w", err)
	}
	ctr := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address", a.address, "--namespace", namespace}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("ctr %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	before := bootTime()
	err = ctr("run", "--detach", "--net-host", "--seccomp", "--mount", "type=bind,src="+stampDir+",dst=/stamps,options=rbind:rw",
		info[0].Image, name, "/testbox", "stamp", "/stamps/"+name)
	return before, func() error {
		if err := ctr("tasks", "delete", "--force", name); err != nil {
			return err
		}
		return ctr("containers", "delete", name)
	}, err
}

func measureBurst(ctx context.Context, o options, r *report, a *agent, b *bare, stamps *stampWatch) error {
	r.BurstSize = o.burst
	methods := []*series{}
	for _, network := range []string{"host", "bridge"} {
		methods = append(methods, &series{Method: "ecsd, " + network})
	}
	parallel := map[string]int{}
	for _, p := range []int{2, 4, 8, o.burst} {
		m := &series{Method: fmt.Sprintf("bare client, %d at once", p)}
		parallel[m.Method] = p
		methods = append(methods, m)
	}
	for round := range o.bursts {
		for _, m := range methods {
			name := fmt.Sprintf("b%d-%d", round, len(m.Method))
			var before time.Duration
			clear := func() error { return a.gone(ctx, name) }
			if p := parallel[m.Method]; p > 0 {
				name = fmt.Sprintf("b%d-p%d", round, p)
				before = bootTime()
				all, err := b.startMany(ctx, name, o.burst, p)
				if err != nil {
					return fmt.Errorf("%s: %w", m.Method, err)
				}
				clear = func() error {
					for _, one := range all {
						if err := b.remove(ctx, one); err != nil {
							return err
						}
					}
					return nil
				}
			} else {
				var err error
				if before, err = a.run(name, strings.TrimPrefix(m.Method, "ecsd, "), "stamp, /stamps/"+name, o.burst); err != nil {
					return err
				}
			}
			last, err := stamps.last(ctx, name, o.burst)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Method, err)
			}
			m.add(last - before)
			if err := clear(); err != nil {
				return fmt.Errorf("%s: clear away: %w", m.Method, err)
			}
		}
	}
	for _, m := range methods {
		r.Burst = append(r.Burst, *m)
	}
	return nil
}

// startMany starts count containers that stamp one file, parallel at a time.
func (b *bare) startMany(ctx context.Context, name string, count, parallel int) ([]*running, error) {
	all := make([]*running, count)
	errs := make([]error, count)
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range count {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			all[i], errs[i] = b.start(ctx, fmt.Sprintf("%s-%d", name, i), name)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func measureIdle(ctx context.Context, o options, r *report, a *agent, stamps *stampWatch) error {
	empty, err := a.figures(ctx, 0, o.quiet)
	if err != nil {
		return err
	}
	r.Idle = append(r.Idle, empty)
	if _, err := a.run("idle", "bridge", "stamp, /stamps/idle", o.idle); err != nil {
		return err
	}
	if _, err := stamps.last(ctx, "idle", o.idle); err != nil {
		return err
	}
	if err := a.wait(ctx, "stable", "idle"); err != nil {
		return err
	}
	full, err := a.figures(ctx, o.idle, o.quiet)
	if err != nil {
		return err
	}
	r.Idle = append(r.Idle, full)
	return a.gone(ctx, "idle")
}
