using System.Globalization;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>What a process and its descendants use now, read from /proc by the outside.</summary>
internal static class ProcessTree
{
    private const double TicksPerSecond = 100;          // USER_HZ, the unit of /proc/*/stat, is 100 on every Linux port

    /// <summary>As <see cref="Sample"/>, of everything under the children of <paramref name="parent"/> and not of itself.</summary>
    internal static (double CpuSeconds, long ResidentBytes) SampleChildren(int parent)
    {
        double cpu = 0;
        long resident = 0;
        try
        {
            foreach (var child in File.ReadAllText($"/proc/{parent}/task/{parent}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                var (childCpu, childResident) = Sample(int.Parse(child, CultureInfo.InvariantCulture));
                cpu += childCpu;
                resident += childResident;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The server is gone; whoever waits for it sees that.
        }

        return (cpu, resident);
    }

    /// <summary>CPU seconds (of the dead that were waited for too) and resident bytes of the tree under <paramref name="root"/>.</summary>
    internal static (double CpuSeconds, long ResidentBytes) Sample(int root)
    {
        double cpu = 0;
        long resident = 0;
        var open = new Stack<int>();
        open.Push(root);
        while (open.TryPop(out var process))
        {
            try
            {
                if (!TryReadStat(process, out var fields, out var line))
                {
                    continue;
                }

                // Fields after the name: state is 0, ppid 1, utime 11, stime 12, cutime 13, cstime 14, rss 21.
                for (var i = 11; i <= 14; i++)
                {
                    cpu += long.Parse(line.AsSpan(fields[i]), CultureInfo.InvariantCulture) / TicksPerSecond;
                }

                resident += long.Parse(line.AsSpan(fields[21]), CultureInfo.InvariantCulture) * Environment.SystemPageSize;
                foreach (var thread in Directory.EnumerateDirectories($"/proc/{process}/task"))
                {
                    foreach (var child in File.ReadAllText(thread + "/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))
                    {
                        open.Push(int.Parse(child, CultureInfo.InvariantCulture));
                    }
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Gone between listing and reading: the next sample sees what is left.
            }
        }

        return (cpu, resident);
    }

    /// <summary>The parent's id, or -1 when the process is gone.</summary>
    internal static int ParentOf(int process)
    {
        try
        {
            return TryReadStat(process, out var fields, out var line) ? int.Parse(line.AsSpan(fields[1]), CultureInfo.InvariantCulture) : -1;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return -1;
        }
    }

    // The name, in parentheses, may itself hold spaces and parentheses: the fields start after the last one.
    private static bool TryReadStat(int process, out Range[] fields, out string line)
    {
        var text = File.ReadAllText($"/proc/{process}/stat");
        line = text[Math.Min(text.Length, text.LastIndexOf(')') + 2)..];
        fields = new Range[30];
        return line.AsSpan().Split(fields, ' ') >= 22;
    }
}
