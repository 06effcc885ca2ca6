package spec

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const testPasswd = `root:x:0:0:root:/root:/bin/sh
# a comment, and a line of NIS
+nis::::::
broken
app:x:1000:1000:An App,,,:/home/app:/bin/sh
nohome:x:1001:1001:::
1002:x:1003:1003::/named-like-a-number:
late:x:1000:7:the same uid again:/late:
huge:x:4294967296:0::/:
`

const testGroup = `root:x:0:
broken
adm:x:4:app,late
app:x:1000:app
audio:x:29:app,nohome
empty:x:33:
huge:x:4294967296:app
`

func TestResolveUser(t *testing.T) {
	for _, test := range []struct {
		user string
		want specs.User
		home string
		err  string
	}{
		{user: "", want: specs.User{AdditionalGids: []uint32{0}}, home: "/root"},
		{user: "root", want: specs.User{AdditionalGids: []uint32{0}}, home: "/root"},
		{user: "app", want: specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 4, 29}}, home: "/home/app"},
		{user: "1000", want: specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 4, 29}}, home: "/home/app"},
		{user: "app:audio", want: specs.User{UID: 1000, GID: 29, AdditionalGids: []uint32{29}}, home: "/home/app"},
		{user: "app:29", want: specs.User{UID: 1000, GID: 29, AdditionalGids: []uint32{29}}, home: "/home/app"},
		{user: "1000:4242", want: specs.User{UID: 1000, GID: 4242, AdditionalGids: []uint32{4242}}, home: "/home/app"},
		{user: "4242:empty", want: specs.User{UID: 4242, GID: 33, AdditionalGids: []uint32{33}}, home: "/"},
		{user: "4242", want: specs.User{UID: 4242, AdditionalGids: []uint32{0}}, home: "/"},
		{user: "0:0", want: specs.User{AdditionalGids: []uint32{0}}, home: "/root"},
		{user: "app:", want: specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 4, 29}}, home: "/home/app"},
		{user: "nohome", want: specs.User{UID: 1001, GID: 1001, AdditionalGids: []uint32{1001, 29}}, home: "/"},
		{user: "1002", want: specs.User{UID: 1003, GID: 1003, AdditionalGids: []uint32{1003}}, home: "/named-like-a-number"},
		{user: "2147483647", want: specs.User{UID: math.MaxInt32, AdditionalGids: []uint32{0}}, home: "/"},

		{user: "foo", err: "unable to find user foo: no matching entries in passwd file"},
		{user: "broken", err: "unable to find user broken"},
		{user: "huge", err: "unable to find user huge"},
		{user: "app:nobody", err: "unable to find group nobody: no matching entries in group file"},
		{user: "app:huge", err: "unable to find group huge"},
		{user: "a:b:c", err: "more than one colon"},
		{user: "-1", err: "range 0-2147483647"},
		{user: "2147483648", err: "range 0-2147483647"},
		{user: "99999999999999999999", err: "range 0-2147483647"},
		{user: "app:-1", err: "range 0-2147483647"},
		{user: "+5", err: "unable to find user +5"},
		{user: " app", err: "unable to find user  app"},
	} {
		t.Run(test.user, func(t *testing.T) {
			u, home, err := ResolveUser(test.user, []byte(testPasswd), []byte(testGroup))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if u.UID != test.want.UID || u.GID != test.want.GID || !slices.Equal(u.AdditionalGids, test.want.AdditionalGids) || home != test.home {
				t.Errorf("got %+v at home in %q, want %+v in %q", u, home, test.want, test.home)
			}
		})
	}
}

// An image from scratch has neither file: numbers and root work, names cannot.
func TestResolveUserWithoutFiles(t *testing.T) {
	for user, uid := range map[string]uint32{"": 0, "0": 0, "17": 17, "17:18": 17} {
		u, home, err := ResolveUser(user, nil, nil)
		if err != nil || u.UID != uid || home != "/" {
			t.Errorf("%q: %+v, %q, %v; want uid %d at home in /", user, u, home, err, uid)
		}
	}
	if _, _, err := ResolveUser("root", nil, nil); err == nil {
		t.Error("a name was found in no file")
	}
}

func FuzzResolveUser(f *testing.F) {
	for _, user := range []string{"", "root", "app:audio", "1000:29", "-1", "a:b:c", ":", "0x10"} {
		f.Add(user, []byte(testPasswd), []byte(testGroup))
	}
	f.Add("a", []byte("a:x:1:2\r\na"), []byte("::::"))
	f.Fuzz(func(t *testing.T, user string, passwd, group []byte) {
		u, home, err := ResolveUser(user, passwd, group)
		if err != nil {
			if u.UID != 0 || u.GID != 0 || u.AdditionalGids != nil || home != "" {
				t.Fatalf("%+v and %q beside the error %v", u, home, err)
			}
			return
		}
		if u.UID > math.MaxInt32 || u.GID > math.MaxInt32 {
			t.Fatalf("%+v is out of range", u)
		}
		if len(u.AdditionalGids) == 0 || u.AdditionalGids[0] != u.GID {
			t.Fatalf("%+v: the primary group is not the first of the supplementary ones", u)
		}
		sorted := slices.Clone(u.AdditionalGids)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(u.AdditionalGids) {
			t.Fatalf("%+v has a group twice", u)
		}
		if home == "" {
			t.Fatal("no home")
		}
	})
}
