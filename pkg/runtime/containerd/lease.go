package containerd

import (
	"context"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
)

// A lease keeps what it was used to make from containerd's collector. Without one the
// collector takes a snapshot that was prepared but is not used yet, within milliseconds
// when there is much coming and going.
//
// Each task has one, of the task's own id, made with the sandbox, beside the network, where
// it costs no time. It expires, so that one that a crash left behind does not pin its
// snapshots for ever; by then a container's record keeps them.
const leaseExpiry = 24 * time.Hour

// ensureLease makes the task's lease.
func (r *Runtime) ensureLease(ctx context.Context, id string) error {
	_, err := r.client.LeasesService().Create(ctx, leases.WithID(id), leases.WithExpiration(leaseExpiry))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// dropLease removes a lease.
func (r *Runtime) dropLease(ctx context.Context, id string) error {
	err := r.client.LeasesService().Delete(ctx, leases.Lease{ID: id})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// underLease calls f with the lease in its context, and makes the lease anew when it has
// expired and was collected.
func (r *Runtime) underLease(ctx context.Context, id string, f func(context.Context) error) error {
	leased := leases.WithLease(ctx, id)
	err := f(leased)
	if !errdefs.IsNotFound(err) {
		return err
	}
	list, listErr := r.client.LeasesService().List(ctx, "id=="+id)
	if listErr != nil || len(list) > 0 {
		return err // something else was not found
	}
	if err := r.ensureLease(ctx, id); err != nil {
		return err
	}
	return f(leased)
}
