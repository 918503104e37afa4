#!/bin/bash
# Become a machine of its own: systemd as process 1, on a copy of this host's files that vanishes
# with it, with what install.py put into a folder. Started in new namespaces by booted.py:
#   boot.sh SCRATCH INSTALLED
set -e
scratch=$1 installed=$2
mount --make-rprivate /
# An overlay's upper layer must not lie within its lower one.
mount -t tmpfs -o size=2g tmpfs "$scratch"
mkdir -p "$scratch"/{upper,work,root}
mount -t overlay overlay \
  -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
root=$scratch/root
mkdir -p "$root/usr/lib/qmkd" "$root/oldroot"
mount --bind "$installed/usr/lib/qmkd" "$root/usr/lib/qmkd"
cp -a "$installed"/etc/. "$root/etc/"
cp -a "$installed"/usr/bin/. "$root/usr/bin/"
for folder in systemd sysusers.d tmpfiles.d; do
  mkdir -p "$root/usr/lib/$folder"
  cp -a "$installed/usr/lib/$folder/." "$root/usr/lib/$folder/"
done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
umount -R "$root/sys/fs/cgroup" 2>/dev/null || true
if [ "$(awk '$1 == "memory" { print $2 }' /proc/cgroups)" != 0 ]; then
  # The host's controllers are of the first version.
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  for controller in memory cpu cpuacct pids blkio devices freezer cpuset; do
    mkdir "$root/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "$root/sys/fs/cgroup/$controller" || true
  done
  mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" || true
else
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
: > "$root/etc/.pwd.lock"
: > "$root/etc/machine-id"
echo qmk-test > "$root/etc/hostname"
rm -rf "$root"/etc/systemd/system/*.wants
systemd-sysusers --root="$root" qmkd.conf
systemd-tmpfiles --root="$root" --create qmkd.conf
systemctl --root="$root" --quiet enable qmk.target qmkd.socket qmkd-nightly.timer
cd "$root"
pivot_root . oldroot  # chroot would break PrivateUsers=
umount -l /oldroot
mount --make-rshared /  # credentials need it
exec env -i container=qmk PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal
