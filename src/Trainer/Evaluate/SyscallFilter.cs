using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// The seccomp filter of the sandbox, as classic BPF bytes for `bwrap --seccomp`. It allows what programs use and refuses (EPERM) what reaches
/// past namespaces and limits: socket families that a network namespace does not hold (AF_VSOCK, AF_ALG, AF_PACKET, ...), memory that no limit
/// counts (SysV segments, memfd, secret memory), new namespaces and mounts, tracing, keyrings, BPF, io_uring, userfaultfd, perf.
/// Program memory is 8 bytes per instruction: u16 code, u8 jump if true, u8 jump if false, u32 constant.
/// </summary>
internal static class SyscallFilter
{
    private const ushort Load = 0x20;                   // BPF_LD | BPF_W | BPF_ABS
    private const ushort JumpIfEqual = 0x15;
    private const ushort JumpIfAtLeast = 0x35;
    private const ushort JumpIfAnyBit = 0x45;
    private const ushort Return = 0x06;
    private const uint Allow = 0x7FFF0000;
    private const uint KillProcess = 0x80000000;
    private const uint NotPermitted = 0x00050000 | 1;   // SECCOMP_RET_ERRNO | EPERM
    private const uint NotImplemented = 0x00050000 | 38; // ENOSYS: glibc falls back from clone3 to clone, whose flags can be read
    private const uint ArchitectureX64 = 0xC000003E;
    private const uint X32Bit = 0x40000000;
    private const uint NumberOffset = 0;                // struct seccomp_data
    private const uint ArchitectureOffset = 4;
    private const uint FirstArgumentOffset = 16;        // its low half: little endian
    private const uint NewNamespaceFlags = 0x7E020000;  // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
    private const uint Clone = 56;
    private const uint Clone3 = 435;
    private const uint Socket = 41;

    private static readonly uint[] s_families = [1, 2, 10, 16]; // AF_UNIX, AF_INET, AF_INET6, AF_NETLINK

    private static readonly uint[] s_refused =
    [
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71,         // shmget shmat shmctl, semget semop semctl, msgget msgsnd msgrcv msgctl
        319, 447,                                       // memfd_create, memfd_secret
        101, 310, 311, 312, 438, 440,                   // ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd, process_madvise
        165, 166, 155, 161, 428, 429, 430, 431, 432, 433, 442, // mount umount2 pivot_root chroot open_tree move_mount fs*, mount_setattr
        272, 308,                                       // unshare, setns
        321, 298, 323, 425, 426, 427,                   // bpf, perf_event_open, userfaultfd, io_uring_*
        248, 249, 250,                                  // add_key, request_key, keyctl
        175, 313, 176, 246, 320, 169, 167, 168, 163, 103, // modules, kexec, reboot, swap, acct, syslog
        303, 304, 300, 179, 154, 278,                   // name_to_handle_at, open_by_handle_at, fanotify_init, quotactl, modify_ldt, vmsplice
    ];

    /// <summary>The filter is written for x86-64 only.</summary>
    internal static bool Supported => RuntimeInformation.ProcessArchitecture == Architecture.X64;

    internal static byte[] Build()
    {
        var program = new List<(ushort Code, byte True, byte False, uint Constant)>
        {
            (Load, 0, 0, ArchitectureOffset),
            (JumpIfEqual, 1, 0, ArchitectureX64),
            (Return, 0, 0, KillProcess),
            (Load, 0, 0, NumberOffset),
            (JumpIfAtLeast, 0, 1, X32Bit),
            (Return, 0, 0, NotPermitted),
        };
        foreach (var number in s_refused)
        {
            program.Add((JumpIfEqual, 0, 1, number));
            program.Add((Return, 0, 0, NotPermitted));
        }

        program.Add((JumpIfEqual, 0, 1, Clone3));
        program.Add((Return, 0, 0, NotImplemented));
        program.Add((JumpIfEqual, 0, 4, Clone));
        program.Add((Load, 0, 0, FirstArgumentOffset));
        program.Add((JumpIfAnyBit, 0, 1, NewNamespaceFlags));
        program.Add((Return, 0, 0, NotPermitted));
        program.Add((Return, 0, 0, Allow));
        program.Add((JumpIfEqual, 1, 0, Socket));
        program.Add((Return, 0, 0, Allow));
        program.Add((Load, 0, 0, FirstArgumentOffset));
        foreach (var family in s_families)
        {
            program.Add((JumpIfEqual, 0, 1, family));
            program.Add((Return, 0, 0, Allow));
        }

        program.Add((Return, 0, 0, NotPermitted));
        var bytes = new byte[8 * program.Count];
        for (var i = 0; i < program.Count; i++)
        {
            var (code, yes, no, constant) = program[i];
            var at = bytes.AsSpan(8 * i, 8);
            BinaryPrimitives.WriteUInt16LittleEndian(at, code);
            at[2] = yes;
            at[3] = no;
            BinaryPrimitives.WriteUInt32LittleEndian(at[4..], constant);
        }

        return bytes;
    }
}
