package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// volumes are image files in one folder: ID.img.
type volumes struct{ folder string }

func (v volumes) path(id string) (string, error) {
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return "", status.Errorf(codes.InvalidArgument, "%q is no volume id", id)
	}
	return filepath.Join(v.folder, id+".img"), nil
}

// size in bytes; NotFound if there is no such volume.
func (v volumes) size(id string) (int64, error) {
	path, err := v.path(id)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, status.Errorf(codes.NotFound, "no volume %s", id)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// create makes the volume unless it exists, and returns its size. The image appears by a rename, when its file system
// is complete: a driver killed in the middle leaves no half-made volume behind.
func (v volumes) create(id string, size int64) (int64, error) {
	if got, err := v.size(id); status.Code(err) != codes.NotFound {
		return got, err
	}
	path, err := v.path(id)
	if err != nil {
		return 0, err
	}
	draft := path + ".new"
	file, err := os.OpenFile(draft, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
		return 0, err
	}
	if _, err := run("mkfs.xfs", "-q", "-f", draft); err != nil {
		return 0, errors.Join(err, os.Remove(draft))
	}
	return size, os.Rename(draft, path)
}

func (v volumes) remove(id string) error {
	path, err := v.path(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// grow makes the image at least that large and returns its size.
func (v volumes) grow(id string, size int64) (int64, error) {
	got, err := v.size(id)
	if err != nil || got >= size {
		return got, err
	}
	path, err := v.path(id)
	if err != nil {
		return 0, err
	}
	return size, os.Truncate(path, size)
}

// mount attaches the image to a free loop device and mounts it; the device goes with the last mount.
func (v volumes) mount(id, target string) error {
	if _, err := v.size(id); err != nil {
		return err
	}
	path, err := v.path(id)
	if err != nil {
		return err
	}
	if err := ensureFreeLoopNode(); err != nil {
		return err
	}
	_, err = run("mount", "-t", "xfs", "-o", "loop", path, target)
	return err
}

// ensureFreeLoopNode makes the device file of the next free loop device. The kernel has as many devices as one asks
// for, but where /dev is a plain tmpfs nobody makes the files past those that were there at boot (usually eight).
func ensureFreeLoopNode() error {
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening /dev/loop-control: %w", err)
	}
	defer unix.Close(control)
	number, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("asking for a free loop device: %w", err)
	}
	err = unix.Mknod(fmt.Sprintf("/dev/loop%d", number), unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(number))))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making /dev/loop%d: %w", number, err)
	}
	return nil
}

// run returns what the command prints, or an error with all its output.
func run(command string, arguments ...string) (string, error) {
	output, err := exec.Command(command, arguments...).CombinedOutput()
	if err != nil {
		return "", status.Errorf(codes.Internal, "%s %v: %v: %s", command, arguments, err, output)
	}
	return strings.TrimSpace(string(output)), nil
}
