package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// The properties of Plan are of three kinds. Safety: what an action must not do, checked
// against what happened before. Liveness: left alone, a task comes to rest. Rest: what a
// task at rest may look like. The oracles read the world's history and the definition; they
// know nothing of stages or needs.

// nature is how a container of a generated task behaves, unknown to Plan.
type nature struct {
	lives    time.Duration // until it exits by itself; 0: for ever
	code     int
	stubborn bool          // ignores the stop signal
	healthy  time.Duration // from its start; 0: never
	noImage  bool
	noStart  bool
}

// gen makes a task without rings, and the nature of its containers.
func genTask(t *rapid.T) (spec.Task, map[string]nature) {
	n := rapid.IntRange(1, 5).Draw(t, "containers")
	names := rapid.Permutation([]string{"a", "b", "c", "d", "e"}[:n]).Draw(t, "order")
	natures := map[string]nature{}
	byName := map[string]spec.ContainerDefinition{}
	essentials := 0
	for i, name := range names { // may depend on those before it
		def := spec.ContainerDefinition{Name: name, Image: "image-" + name}
		isEssential := rapid.IntRange(0, 2).Draw(t, "essential "+name) > 0 || i == n-1 && essentials == 0
		def.Essential = &isEssential
		if isEssential {
			essentials++
		}
		def.HealthCheck = &spec.HealthCheck{}
		for _, on := range names[:i] {
			switch rapid.IntRange(0, 9).Draw(t, name+" needs "+on) {
			case 0:
				def.DependsOn = append(def.DependsOn, spec.ContainerDependency{ContainerName: on, Condition: condStart})
			case 1:
				def.DependsOn = append(def.DependsOn, spec.ContainerDependency{ContainerName: on, Condition: condComplete})
			case 2:
				def.DependsOn = append(def.DependsOn, spec.ContainerDependency{ContainerName: on, Condition: condSuccess})
			case 3:
				def.DependsOn = append(def.DependsOn, spec.ContainerDependency{ContainerName: on, Condition: condHealthy})
			case 4:
				def.Links = append(def.Links, on+":alias")
			case 5:
				def.VolumesFrom = append(def.VolumesFrom, spec.VolumeFrom{SourceContainer: on})
			}
		}
		if s := rapid.SampledFrom([]int{0, 5, 45}).Draw(t, "stopTimeout "+name); s > 0 {
			def.StopTimeout = &s
		}
		if s := rapid.SampledFrom([]int{0, 0, 20}).Draw(t, "startTimeout "+name); s > 0 {
			def.StartTimeout = &s
		}
		if rapid.IntRange(0, 3).Draw(t, "restarts "+name) == 0 {
			yes, period := true, 60
			def.RestartPolicy = &spec.RestartPolicy{Enabled: &yes, RestartAttemptPeriod: &period, IgnoredExitCodes: []int{7}}
		}
		byName[name] = def
		natures[name] = nature{
			lives:    rapid.SampledFrom([]time.Duration{0, 0, time.Second, 30 * time.Second, 70 * time.Second}).Draw(t, "lives "+name),
			code:     rapid.SampledFrom([]int{0, 0, 1, 7}).Draw(t, "code "+name),
			stubborn: rapid.Bool().Draw(t, "stubborn "+name),
			healthy:  rapid.SampledFrom([]time.Duration{0, time.Second, 30 * time.Second}).Draw(t, "healthy "+name),
			noImage:  rapid.IntRange(0, 15).Draw(t, "no image "+name) == 0,
			noStart:  rapid.IntRange(0, 15).Draw(t, "no start "+name) == 0,
		}
	}
	task := spec.Task{ID: testID(1), Family: "fam", DesiredStatus: spec.StatusRunning}
	for _, name := range rapid.Permutation(names).Draw(t, "listed") {
		task.Definition.ContainerDefinitions = append(task.Definition.ContainerDefinitions, byName[name])
	}
	return task, natures
}

// trial is a world that behaves, with an oracle that watches.
type trial struct {
	*rapid.T
	*world
	natures map[string]nature
	pulling map[string]bool // pulls in flight
	rank    int             // of the last status seen
}

// behave gives every container a chance to do what its nature has it do by now.
func (tr *trial) behave() {
	for name, n := range tr.natures {
		c := tr.have.Task.Containers[name]
		if !tr.live(name) {
			continue
		}
		ran, _ := tr.now.Since(c.Started)
		if n.healthy > 0 && ran >= n.healthy && tr.have.Health[name].Status == "" {
			tr.have.Health[name] = Health{Status: spec.HealthHealthy, Since: tr.now}
		}
		if n.lives > 0 && ran >= n.lives {
			code := n.code
			tr.exit(name, &code)
			delete(tr.have.Health, name)
		} else if since, _ := tr.now.Since(c.StopSignaled); !c.StopSignaled.IsZero() && !n.stubborn && since >= time.Second {
			code := 143
			tr.exit(name, &code)
			delete(tr.have.Health, name)
		}
	}
}

// nextDeed is the time until some container does something by itself; 0: none will.
func (tr *trial) nextDeed() time.Duration {
	next := time.Duration(0)
	soon := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	for name, n := range tr.natures {
		c := tr.have.Task.Containers[name]
		if !tr.live(name) {
			continue
		}
		ran, _ := tr.now.Since(c.Started)
		soon(n.lives - ran)
		soon(n.healthy - ran)
		if since, _ := tr.now.Since(c.StopSignaled); !c.StopSignaled.IsZero() && !n.stubborn {
			soon(time.Second - since)
		}
	}
	return next
}

// act carries out one action as the nature of its container has it.
func (tr *trial) act(a Action) {
	n := tr.natures[a.Container]
	switch {
	case a.Verb == PullImage && n.noImage:
		tr.have.Pulls[a.Container] = Pull{Started: tr.now, Done: tr.now, Err: runtime.NewTaskError("CannotPullContainerError", nil, "not found")}
	case a.Verb == PullImage:
		tr.have.Pulls[a.Container] = Pull{Started: tr.now}
		tr.pulling[a.Container] = true
	case a.Verb == StartContainer && n.noStart:
		tr.have.Failed[a.Container] = runtime.NewTaskError("CannotStartContainerError", nil, "no such file")
		tr.note("failed", a.Container, nil)
	default:
		tr.apply(a)
	}
}

// last is the latest happening of a kind to a container.
func (tr *trial) last(container string, what ...string) (happening, bool) {
	for _, h := range slices.Backward(tr.history) {
		if h.container == container && slices.Contains(what, h.what) {
			return h, true
		}
	}
	return happening{}, false
}

// over reports, from history, that a container has ended and no policy of its own runs it
// again.
func (tr *trial) over(name string) bool {
	h, ok := tr.last(name, "started", "exited")
	return ok && h.what == "exited" && !tr.mayRestart(name)
}

// mayRestart is ECS's rule, from history.
func (tr *trial) mayRestart(name string) bool {
	def, _ := tr.want.Container(name)
	if def.RestartPolicy == nil || tr.have.Failed[name] != nil {
		return false
	}
	started, _ := tr.last(name, "started")
	exited, _ := tr.last(name, "exited")
	signaled, was := tr.last(name, "signaled")
	reboot, rebooted := tr.last("", "reboot")
	return exited.code != nil && *exited.code != 7 && exited.at-started.at >= time.Minute &&
		!(was && signaled.seq > started.seq) && !(rebooted && reboot.seq > started.seq)
}

// mustWindDown reports, from history, that the task is on its way down for good.
func (tr *trial) mustWindDown() bool {
	if tr.want.DesiredStatus == spec.StatusStopped {
		return true
	}
	for _, def := range tr.want.Definition.ContainerDefinitions {
		if _, signaled := tr.last(def.Name, "signaled"); signaled {
			return true
		}
		if *def.Essential && (tr.over(def.Name) || tr.have.Failed[def.Name] != nil || tr.have.Pulls[def.Name].Err != nil) {
			return true
		}
	}
	return false
}

// safe is the oracle of safety.
func (tr *trial) safe(a Action) {
	def, _ := tr.want.Container(a.Container)
	c, there := tr.have.Task.Containers[a.Container]
	switch a.Verb {
	case PullImage, CreateSandbox, CreateContainer, StartContainer:
		if tr.mustWindDown() {
			tr.Fatalf("%s %s although the task winds down", a.Verb, a.Container)
		}
		if !tr.have.Admitted {
			tr.Fatalf("%s %s before the task was admitted", a.Verb, a.Container)
		}
	case StopContainer:
		if c.Live() && !c.StopSignaled.IsZero() {
			tr.Fatalf("a second signal to %s", a.Container)
		}
		for _, other := range tr.want.Definition.ContainerDefinitions {
			if tr.live(other.Name) && reliesOn(other, a.Container) {
				tr.Fatalf("%s is stopped while %s, which depends on it, runs", a.Container, other.Name)
			}
		}
	}
	switch a.Verb {
	case CreateContainer:
		if there {
			tr.Fatalf("%s is created twice", a.Container)
		}
		if tr.have.Pulls[a.Container].Image.Digest == "" || tr.have.Task.Sandbox == nil || !tr.have.Task.Sandbox.Ready {
			tr.Fatalf("%s is created before image and sandbox are ready", a.Container)
		}
	case StartContainer:
		if !there || tr.live(a.Container) {
			tr.Fatalf("%s is started while it is %+v", a.Container, c)
		}
		if tr.have.Task.Processes > 0 && c.Exited() {
			tr.Fatalf("%s is started again while processes of it live", a.Container)
		}
		if !c.Started.IsZero() {
			if !tr.mayRestart(a.Container) {
				tr.Fatalf("%s is run again against its policy", a.Container)
			}
			return
		}
		tr.dependenciesMet(def)
	case KillContainer:
		if !tr.live(a.Container) {
			return // what outlived it
		}
		timeout := 30 * time.Second
		if def.StopTimeout != nil {
			timeout = time.Duration(*def.StopTimeout) * time.Second
		}
		signaled, was := tr.last(a.Container, "signaled")
		if !was || tr.elapsed()-signaled.at < timeout {
			tr.Fatalf("%s is killed before its stop timeout of %s", a.Container, timeout)
		}
	case RemoveContainer, RemoveSandbox:
		for name := range tr.have.Task.Containers {
			if tr.live(name) {
				tr.Fatalf("%s %s while %s runs", a.Verb, a.Container, name)
			}
		}
		if a.Verb == RemoveContainer && tr.have.Task.Processes > 0 {
			tr.Fatalf("%s is removed while processes of the task live", a.Container)
		}
		if a.Verb == RemoveSandbox && len(tr.have.Task.Containers) > 0 {
			tr.Fatal("the sandbox is removed before its containers")
		}
		if tr.want.DesiredStatus != spec.StatusStopped {
			tr.Fatalf("%s %s of a task that is to run", a.Verb, a.Container)
		}
	}
}

// reliesOn reads a definition for any mention of another container.
func reliesOn(def spec.ContainerDefinition, name string) bool {
	for _, d := range def.DependsOn {
		if d.ContainerName == name {
			return true
		}
	}
	return slices.Contains(def.Links, name+":alias") || slices.Contains(def.VolumesFrom, spec.VolumeFrom{SourceContainer: name})
}

// dependenciesMet checks a first start against history.
func (tr *trial) dependenciesMet(def spec.ContainerDefinition) {
	for _, d := range def.DependsOn {
		_, started := tr.last(d.ContainerName, "started")
		h, _ := tr.last(d.ContainerName, "started", "exited")
		ok := started
		switch d.Condition {
		case condComplete:
			ok = h.what == "exited"
		case condSuccess:
			ok = h.what == "exited" && h.code != nil && *h.code == 0
		case condHealthy:
			ok = h.what == "started" && tr.have.Health[d.ContainerName].Status == spec.HealthHealthy
		}
		if !ok {
			tr.Fatalf("%s is started before %s of %s; history: %+v", def.Name, d.Condition, d.ContainerName, tr.history)
		}
	}
	for _, l := range def.Links {
		if _, started := tr.last(l[:1], "started"); !started {
			tr.Fatalf("%s is started before %s, to which it links", def.Name, l)
		}
	}
	for _, v := range def.VolumesFrom {
		if _, created := tr.last(v.SourceContainer, "created"); !created {
			tr.Fatalf("%s is started before %s, whose volumes it uses, is created", def.Name, v.SourceContainer)
		}
	}
}

// look checks the status, which only moves down the list of statuses.
func (tr *trial) look() {
	s := tr.status()
	rank := slices.Index(taskStatuses, s.LastStatus)
	if rank < tr.rank {
		tr.Fatalf("the task became %s after %s", s.LastStatus, taskStatuses[tr.rank])
	}
	tr.rank = rank
	if (s.DesiredStatus == spec.StatusStopped) != (rank >= 2) {
		tr.Fatalf("status is %s, wanted %s", s.LastStatus, s.DesiredStatus)
	}
	if rank >= 2 && (s.StopCode == "" || s.StoppedReason == "") {
		tr.Fatalf("the task winds down without a reason: %+v", s)
	}
	if s.LastStatus == spec.StatusStopped {
		for name := range tr.have.Task.Containers {
			if tr.live(name) {
				tr.Fatalf("STOPPED while %s runs", name)
			}
		}
		if tr.have.Task.Processes > 0 {
			tr.Fatal("STOPPED while processes live")
		}
	}
}

// step plans, checks the plan as a whole, and gives it.
func (tr *trial) step() Steps {
	tr.behave()
	tr.look()
	steps := tr.plan()
	seen := map[string]Verb{}
	for _, a := range steps.Actions {
		if other, twice := seen[a.Container]; twice && !(a.Container == "") {
			tr.Fatalf("one plan does %s and %s to %q", other, a.Verb, a.Container)
		}
		seen[a.Container] = a.Verb
		if a.Why == "" {
			tr.Fatalf("%s %s without a reason", a.Verb, a.Container)
		}
		tr.safe(a)
	}
	return steps
}

// trouble does one thing to the world that is not Plan's doing.
func (tr *trial) trouble(i int) {
	names := make([]string, 0, len(tr.natures))
	for _, c := range tr.want.Definition.ContainerDefinitions {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(tr.T, fmt.Sprintf("who %d", i))
	switch rapid.IntRange(0, 15).Draw(tr.T, fmt.Sprintf("trouble %d", i)) {
	case 0:
		tr.want.DesiredStatus, tr.want.StopCode, tr.want.StoppedReason = spec.StatusStopped, spec.StopUserInitiated, "enough"
	case 1:
		tr.reboot()
		tr.pulling = map[string]bool{}
		tr.have.Admitted = true
	case 2:
		code := 1
		tr.exit(name, &code)
		delete(tr.have.Health, name)
	case 3: // the shim is killed: the container is gone, its process is not
		if tr.live(name) {
			tr.exit(name, nil)
			tr.have.Task.Processes = 1
			delete(tr.have.Health, name)
		}
	case 4:
		if tr.have.Task.Sandbox != nil {
			tr.have.Task.Sandbox = &runtime.Sandbox{}
		}
	case 5, 6, 7:
		tr.pass(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, 61 * time.Second}).Draw(tr.T, fmt.Sprintf("time %d", i)))
	case 8, 9, 10:
		tr.have.Admitted = true
	default:
		tr.land()
	}
}

// land ends the pulls in flight.
func (tr *trial) land() {
	for name := range tr.pulling {
		p := tr.have.Pulls[name]
		p.Done, p.Image = tr.now, runtime.Image{Ref: "image", Digest: "sha256:1"}
		tr.have.Pulls[name] = p
		delete(tr.pulling, name)
	}
}

func TestPlanProperties(t *testing.T) { rapid.Check(t, planProperties) }

func FuzzPlan(f *testing.F) { f.Fuzz(rapid.MakeFuzz(planProperties)) }

func planProperties(t *rapid.T) {
	task, natures := genTask(t)
	tr := &trial{T: t, world: newWorld(task), natures: natures, pulling: map[string]bool{}}
	for i := range rapid.IntRange(0, 40).Draw(t, "troubles") {
		tr.trouble(i)
		steps := tr.step()
		// Some actions get done, in any order; the others fail or are never reached.
		for j, a := range rapid.Permutation(steps.Actions).Draw(t, fmt.Sprintf("acts %d", i)) {
			if rapid.IntRange(0, 4).Draw(t, fmt.Sprintf("done %d.%d", i, j)) > 0 {
				tr.act(a)
			}
		}
	}
	tr.have.Admitted = true
	tr.comesToRest()
}

// comesToRest is liveness: with no more trouble, and time going by as Plan asks or
// containers act, nothing is left to do in a bounded number of steps.
func (tr *trial) comesToRest() {
	restarts := 0
	for range 400 {
		steps := tr.step()
		for _, a := range steps.Actions {
			tr.act(a)
			if a.Verb == StartContainer && tr.have.Task.Containers[a.Container].Restarts > 0 {
				restarts++
			}
		}
		if len(steps.Actions) > 0 || len(tr.pulling) > 0 {
			tr.land()
			if restarts > 3 {
				return // a policy that restarts for ever never rests
			}
			continue
		}
		next := tr.nextDeed()
		if steps.After > 0 && (next == 0 || steps.After < next) {
			next = steps.After
		}
		if next == 0 {
			tr.atRest(steps)
			return
		}
		tr.pass(next)
	}
	tr.Fatalf("no rest after 400 plans; the last: %s", show(tr.plan()))
}

// atRest says what a task at rest may look like.
func (tr *trial) atRest(steps Steps) {
	if tr.want.DesiredStatus == spec.StatusStopped {
		if len(tr.have.Task.Containers) > 0 || tr.have.Task.Sandbox != nil || tr.have.Task.Processes > 0 {
			tr.Fatalf("at rest an ended task has left %+v", tr.have.Task)
		}
		return
	}
	if tr.mustWindDown() {
		tr.Fatalf("at rest a task that must wind down does not")
	}
	waits := false
	for _, def := range tr.want.Definition.ContainerDefinitions {
		_, started := tr.last(def.Name, "started")
		if started {
			if !tr.live(def.Name) && !tr.over(def.Name) {
				tr.Fatalf("at rest %s neither runs nor has ended for good", def.Name)
			}
			continue
		}
		if tr.have.Failed[def.Name] != nil || tr.have.Pulls[def.Name].Err != nil {
			continue // and not essential, or the task would wind down
		}
		if !tr.waitsForGood(def) {
			tr.Fatalf("at rest %s has never been started, and nothing keeps it: %s", def.Name, steps.Waiting)
		}
		if *def.Essential {
			waits = true
			if tr.inVain(def, 0) {
				tr.Fatalf("at rest %s waits for what cannot come, and the task does not end", def.Name)
			}
		}
	}
	if waits && steps.Waiting == "" {
		tr.Fatal("at rest the task waits and does not say for what")
	}
}

// waitsForGood reports whether something a container needs is not so.
func (tr *trial) waitsForGood(def spec.ContainerDefinition) bool {
	for _, d := range def.DependsOn {
		h, started := tr.last(d.ContainerName, "started", "exited")
		switch d.Condition {
		case condStart:
			if !started {
				return true
			}
		case condComplete:
			if h.what != "exited" || tr.tooLate(d.ContainerName, h.at) {
				return true
			}
		case condSuccess:
			if h.what != "exited" || h.code == nil || *h.code != 0 || tr.tooLate(d.ContainerName, h.at) {
				return true
			}
		case condHealthy:
			health := tr.have.Health[d.ContainerName]
			if !tr.live(d.ContainerName) || health.Status != spec.HealthHealthy || tr.tooLate(d.ContainerName, tr.since(health.Since)) {
				return true
			}
		}
	}
	for _, l := range def.Links {
		if _, started := tr.last(l[:1], "started"); !started {
			return true
		}
	}
	for _, v := range def.VolumesFrom {
		if _, created := tr.have.Task.Containers[v.SourceContainer]; !created {
			return true
		}
	}
	return false
}

// since is a moment of this boot on the world's own scale.
func (tr *trial) since(at runtime.Time) time.Duration {
	d, _ := tr.now.Since(at)
	return tr.elapsed() - d
}

// tooLate reports whether something came after a container's startTimeout was over.
func (tr *trial) tooLate(name string, at time.Duration) bool {
	def, _ := tr.want.Container(name)
	from, _ := tr.last(name, "started")
	if tr.have.Task.Containers[name].Restarts > 0 {
		from, _ = tr.last(name, "created")
	}
	return def.StartTimeout != nil && at-from.at >= time.Duration(*def.StartTimeout)*time.Second
}

// inVain reports whether a container waits for something that can never come.
func (tr *trial) inVain(def spec.ContainerDefinition, depth int) bool {
	for _, d := range def.DependsOn {
		h, started := tr.last(d.ContainerName, "started", "exited")
		on, _ := tr.want.Container(d.ContainerName)
		switch {
		case started && h.what == "exited" && d.Condition == condSuccess && (h.code == nil || *h.code != 0):
			return true
		case started && h.what == "exited" && d.Condition == condHealthy:
			return true
		case tr.have.Failed[on.Name] != nil && !started, tr.have.Pulls[on.Name].Err != nil && !started:
			return true
		case !started && depth < 6 && tr.inVain(on, depth+1):
			return true
		case started && h.what == "started" && on.StartTimeout != nil && d.Condition != condStart &&
			tr.have.Health[on.Name].Status != spec.HealthHealthy && tr.elapsed()-h.at >= time.Duration(*on.StartTimeout)*time.Second:
			return true
		}
	}
	return false
}
