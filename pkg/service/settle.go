package service

// Settle returns when everything that was Set before the call has been taken over, so that
// List tells of it. It does not wait for tasks.
func (s *Services) Settle() error {
	// The first act finds the loop waiting, perhaps with the set still to be taken; the
	// second can only come after the pass that took it.
	nothing := func() error { return nil }
	if err := s.act(nothing); err != nil {
		return err
	}
	return s.act(nothing)
}
