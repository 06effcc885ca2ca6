package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ecsd/pkg/spec"
)

// state is what counts, by file name. It is replaced, never changed.
type state struct {
	known bool                // something was decided before: silence is over
	good  map[string]*content // what each file contributes
}

// decision is what follows from a scan.
type decision struct {
	next    state
	set     Set
	files   []File
	causes  map[string]string // by path: why a file is refused
	problem string            // why the directory is not followed; "" when it is
	ready   bool              // set is to be handed on
}

// verdict is why a file's new content does not count.
type verdict struct {
	status, cause string
	reasons       []string
}

// decide says what counts now, given what counted before. It is a function of its
// arguments; memo only spares work.
func decide(path string, before state, f found, mayBeEmpty bool, memo *memo) decision {
	if problem := guard(path, before, f, mayBeEmpty); problem != "" {
		d := decision{next: before, problem: problem, ready: before.known, causes: map[string]string{}}
		d.set = setOf(before.good, sortedNames(before.good))
		d.files = append(d.files, File{Path: path, Status: StatusInvalid, Reasons: []string{problem}, KeptGood: len(before.good) > 0})
		for _, name := range sortedNames(before.good) {
			d.files = append(d.files, File{
				Path: filepath.Join(path, name), Status: StatusInvalid, KeptGood: true,
				Documents: before.good[name].documents, Reasons: []string{"the directory is not followed at present; the last good content counts"},
			})
		}
		return d
	}

	j := &judgement{
		path: path, before: before, found: f, memo: memo,
		refused: map[string]*verdict{}, counts: map[string]*content{}, kept: map[string]string{},
	}
	j.alone()
	for j.duplicates() || j.references() || j.shadows() {
		// Each round refuses a file or keeps one more, so there is an end to it.
	}
	return j.decision()
}

// guard says why a directory must not be followed. It stands between an accident and
// everything that runs.
func guard(path string, before state, f found, mayBeEmpty bool) string {
	if f.err != nil {
		return f.err.Error() + "; nothing is stopped"
	}
	if mayBeEmpty || f.allowEmpty {
		return ""
	}
	for _, e := range f.entries {
		if e.ignored == "" {
			return ""
		}
	}
	if before.known && len(before.good) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: holds no manifests; nothing is stopped: to stop everything, put a file %s there or start the agent with --allow-empty", path, allowEmpty)
}

// judgement is decide at work. counts is what each file contributes as things stand.
type judgement struct {
	path    string
	before  state
	found   found
	refused map[string]*verdict // by name
	counts  map[string]*content // by name
	kept    map[string]string   // files that are gone and still count: why
	order   []string            // the names of counts, sorted; nil when they have changed
	memo    *memo
}

// refuse puts a file's last good content in the place of its new one. It tells whether
// that changed anything: a file is refused once; more reasons are added.
func (j *judgement) refuse(name, status, cause string, why ...string) bool {
	if v := j.refused[name]; v != nil {
		for _, w := range why {
			if !slices.Contains(v.reasons, w) {
				v.reasons = append(v.reasons, w)
			}
		}
		return false
	}
	j.refused[name] = &verdict{status, cause, why}
	delete(j.counts, name)
	j.order = nil
	if good := j.before.good[name]; good != nil {
		j.counts[name] = good
	}
	return true
}

// names are the names of the files that count, sorted.
func (j *judgement) names() []string {
	if j.order == nil {
		j.order = sortedNames(j.counts)
	}
	return j.order
}

// alone judges each file by itself.
func (j *judgement) alone() {
	for _, e := range j.found.entries {
		switch {
		case e.ignored != "":
		case e.problem != "":
			j.refuse(e.name, StatusInvalid, causeUnreadable, filepath.Join(j.path, e.name)+": "+e.problem)
		case e.content.err != nil:
			j.refuse(e.name, StatusInvalid, e.content.cause, reasons(e.content.err)...)
		default:
			j.counts[e.name] = e.content
		}
	}
	j.order = nil
}

// isNew tells whether a file's content of this scan counts, and not that of one before.
func (j *judgement) isNew(name string) bool {
	return j.refused[name] == nil && j.kept[name] == ""
}

// duplicates refuses files that define what another one defines. Contents that counted
// before together cannot conflict, so of two that do, at least one is new.
func (j *judgement) duplicates() (changed bool) {
	first := make(map[identity]string, len(j.counts))
	for _, name := range j.names() {
		for _, id := range j.counts[name].names {
			other, taken := first[id]
			if !taken {
				first[id] = name
				continue
			}
			for _, pair := range [][2]string{{name, other}, {other, name}} {
				if j.isNew(pair[0]) {
					why := fmt.Sprintf("%s: %s is also defined in %s: remove one", filepath.Join(j.path, pair[0]), id, filepath.Join(j.path, pair[1]))
					changed = j.refuse(pair[0], StatusDuplicate, causeDuplicate, why) || changed
				}
			}
			if changed {
				return true // what counts is another now
			}
		}
	}
	return false
}

// references refuses what leaves a service without a definition that fits. Of service
// and definition the one that is new is to blame, the service if both are. A definition
// that is gone stays for as long as a service names it.
func (j *judgement) references() (changed bool) {
	definitions := j.definitions()
	for _, name := range j.names() {
		c := j.counts[name]
		isNew := j.isNew(name) && j.before.good[name] != c
		for i := range c.services {
			s := &c.services[i]
			family := Family(s.Service.TaskDefinition)
			td, defined := definitions[family]
			var errs spec.Errors
			if defined {
				errs = j.memo.fits(s, td.definition)
			} else {
				errs = spec.Errors{{Path: "taskDefinition", Reason: fmt.Sprintf("no manifest defines the family %q: add its task definition to the directory", family)}}
			}
			switch {
			case len(errs) == 0:
			case isNew:
				return j.refuse(name, StatusInvalid, causeReference, reasons(c.docs[i].Locate(errs))...)
			case defined && j.isNew(td.file):
				return j.refuse(td.file, StatusInvalid, causeReference, fmt.Sprintf("%s: TaskDefinition %s does not fit service %s in %s: %s",
					filepath.Join(j.path, td.file), family, s.Service.ServiceName, s.File, strings.Join(reasons(errs), "; ")))
			case !defined && j.restore(family, s):
				return true
			}
		}
	}
	return false
}

// restore brings back the definition of a family, which a service that counts names and
// which was defined before. It tells whether it could.
func (j *judgement) restore(family string, s *Service) bool {
	for _, name := range sortedNames(j.before.good) {
		if !slices.Contains(j.before.good[name].names, identity{spec.KindTaskDefinition, family}) {
			continue
		}
		path := filepath.Join(j.path, name)
		why := fmt.Sprintf("service %s in %s still names the family %s: it is kept until the service goes", s.Service.ServiceName, s.File, family)
		if j.counts[name] != nil {
			return j.refuse(name, StatusInvalid, causeReference, path+": no longer defines a family that is needed: "+why)
		}
		j.kept[name] = path + ": is gone, but " + why
		j.counts[name] = j.before.good[name]
		j.order = nil
		return true
	}
	return false
}

// shadows refuses a definition that would run as a service of its family's name, and a
// service of that same name that runs another definition.
func (j *judgement) shadows() (changed bool) {
	named := map[string]bool{}
	services := map[string]string{}
	for _, name := range j.names() {
		for _, s := range j.counts[name].services {
			named[Family(s.Service.TaskDefinition)] = true
			services[s.Service.ServiceName] = name
		}
	}
	for _, name := range j.names() {
		for _, d := range j.counts[name].definitions {
			family := d.TaskDefinition.Family
			other, taken := services[family]
			if !taken || named[family] {
				continue
			}
			why := fmt.Sprintf("no service names the task definition %s of %s, so it would run as the service %s, which %s defines with another definition: rename one, or let a service name it",
				family, filepath.Join(j.path, name), family, filepath.Join(j.path, other))
			for _, n := range []string{name, other} {
				if j.isNew(n) {
					changed = j.refuse(n, StatusDuplicate, causeDuplicate, why) || changed
				}
			}
			if changed {
				return true
			}
		}
	}
	return false
}

// source is a definition that counts, and the name of its file.
type source struct {
	definition *spec.TaskDefinition
	file       string
}

func (j *judgement) definitions() map[string]source {
	m := make(map[string]source, len(j.counts))
	for name, c := range j.counts {
		for i := range c.definitions {
			m[c.definitions[i].TaskDefinition.Family] = source{&c.definitions[i].TaskDefinition, name}
		}
	}
	return m
}

// decision writes the judgement up.
func (j *judgement) decision() decision {
	d := decision{
		next: state{known: true, good: j.counts}, set: setOf(j.counts, j.names()), causes: map[string]string{}, ready: true,
	}
	d.files = make([]File, 0, len(j.found.entries)+len(j.kept))
	ports := portWarnings(j.counts, j.names())
	for _, e := range j.found.entries {
		file := File{Path: filepath.Join(j.path, e.name), Status: StatusAccepted}
		if e.ignored != "" {
			file.Status, file.Reasons = StatusIgnored, []string{e.ignored}
			d.files = append(d.files, file)
			continue
		}
		counts := j.counts[e.name]
		if v := j.refused[e.name]; v != nil {
			file.Status, file.Reasons, file.KeptGood = v.status, v.reasons, counts != nil
			d.causes[file.Path] = v.cause
		}
		if counts != nil {
			file.Documents = counts.documents
			file.Warnings = slices.Concat(e.warnings, counts.warnings, ports[e.name])
		}
		d.files = append(d.files, file)
	}
	for _, name := range j.names() {
		if why := j.kept[name]; why != "" {
			path := filepath.Join(j.path, name)
			d.causes[path] = causeReference
			d.files = append(d.files, File{Path: path, Status: StatusInvalid, Reasons: []string{why}, KeptGood: true, Documents: j.counts[name].documents})
		}
	}
	slices.SortFunc(d.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	if !j.before.known && len(j.counts) == 0 && len(j.refused) > 0 {
		// Nothing is known, and nothing can be read: that is not "nothing shall run".
		d.next, d.ready = j.before, false
	}
	return d
}

// setOf is everything that counts, in order.
func setOf(good map[string]*content, names []string) Set {
	var definitions, services int
	for _, c := range good {
		definitions, services = definitions+len(c.definitions), services+len(c.services)
	}
	s := Set{Definitions: make([]Definition, 0, definitions), Services: make([]Service, 0, services)}
	sum := sha256.New()
	for _, name := range names {
		c := good[name]
		s.Definitions = append(s.Definitions, c.definitions...)
		s.Services = append(s.Services, c.services...)
		fmt.Fprintf(sum, "%d %s ", len(name), name)
		sum.Write(c.hash[:])
	}
	s.Revision = hex.EncodeToString(sum.Sum(nil))[:12]
	return s
}

func sortedNames(m map[string]*content) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
