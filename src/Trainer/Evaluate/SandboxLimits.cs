namespace Z1Coder.Trainer.Evaluate;

/// <summary>What one confined program may use. Passing a limit ends the program; none of them is enforced by the program itself.</summary>
public sealed record SandboxLimits
{
    /// <summary>Elapsed seconds from the moment the interpreter is ready. The whole process tree is killed.</summary>
    public double WallSeconds { get; init; } = 10;

    /// <summary>CPU seconds of all its processes together (sampled), and of each process (kernel, rounded up to whole seconds).</summary>
    public double CpuSeconds { get; init; } = 10;

    /// <summary>Address space and data of each process (kernel), and resident memory of all processes together (sampled).</summary>
    public long MemoryBytes { get; init; } = 4L << 30;

    /// <summary>Resident memory of all processes together where it is less than <see cref="MemoryBytes"/>; null for the same.</summary>
    public long? ResidentBytes { get; init; }

    /// <summary>Processes and threads, the interpreter included.</summary>
    public int Processes { get; init; } = 32;

    /// <summary>Largest file; also all of /tmp together, and all of /dev/shm together.</summary>
    public long FileBytes { get; init; } = 64L << 20;

    /// <summary>Open descriptors of each process.</summary>
    public int OpenFiles { get; init; } = 128;

    /// <summary>Characters of standard output, and of standard error, that are kept: the first ones.</summary>
    public int OutputKeptBytes { get; init; } = 64 << 10;

    /// <summary>Standard output and error together; more ends the program.</summary>
    public long OutputBytes { get; init; } = 8L << 20;
}
