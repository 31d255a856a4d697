namespace Z1Coder.Perf;

/// <summary>What the system says about this process and this machine.</summary>
public static class ProcStatus
{
    /// <summary>The most memory this process ever had resident (VmHWM), bytes; 0 where the system does not say.</summary>
    public static long PeakResidentBytes()
    {
        const string Path = "/proc/self/status", Key = "VmHWM:";
        if (!File.Exists(Path))
        {
            return 0;
        }

        var line = File.ReadLines(Path).FirstOrDefault(l => l.StartsWith(Key, StringComparison.Ordinal));
        return line is null ? 0 : long.Parse(line[Key.Length..].Replace("kB", "", StringComparison.Ordinal)) << 10;
    }

    /// <summary>The one-minute load average; NaN where the system does not say.</summary>
    public static double Load() =>
        File.Exists("/proc/loadavg") ? double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0]) : double.NaN;
}
