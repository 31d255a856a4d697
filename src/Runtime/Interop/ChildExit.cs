namespace Z1Coder.Runtime;

/// <summary>How a child process ended, and what it and every descendant it waited for used.</summary>
/// <param name="Code">Exit status, or 128 + the signal that ended it, as a shell would say.</param>
/// <param name="CpuSeconds">User and system time of the child and of its waited-for descendants.</param>
/// <param name="PeakBytes">Largest resident set among them (of one process, not their sum).</param>
public readonly record struct ChildExit(int Code, double CpuSeconds, long PeakBytes);
