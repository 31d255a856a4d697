using System.Globalization;
using System.Text.RegularExpressions;

namespace Z1Coder.Runtime;

/// <summary>A compiled device file: a cubin, or a shared object for hostcuda.</summary>
/// <param name="Image">the bytes that cuModuleLoadData takes</param>
/// <param name="Log">what the compiler said</param>
/// <param name="FromCache">whether an earlier process compiled it</param>
public sealed partial record KernelImage(byte[] Image, string Log, bool FromCache)
{
    /// <summary>The ptxas report per entry point, in the order of the log; empty for hostcuda.</summary>
    public IReadOnlyList<KernelResources> Resources { get; } = Parse(Log);

    private static List<KernelResources> Parse(string log)
    {
        var result = new List<KernelResources>();
        string? entry = null;
        int stack = 0, stores = 0, loads = 0;
        foreach (var line in log.Split('\n'))
        {
            if (Entry().Match(line) is { Success: true } begin)
            {
                entry = begin.Groups[1].Value;
                (stack, stores, loads) = (0, 0, 0);
            }
            else if (Frame().Match(line) is { Success: true } frame)
            {
                (stack, stores, loads) = (Number(frame.Groups[1]), Number(frame.Groups[2]), Number(frame.Groups[3]));
            }
            else if (entry is not null && Used().Match(line) is { Success: true } used)
            {
                var shared = Shared().Match(line);
                result.Add(new(entry, Number(used.Groups[1]), shared.Success ? Number(shared.Groups[1]) : 0, stack, stores, loads));
                entry = null;
            }
        }

        return result;
    }

    private static int Number(Group group) => int.Parse(group.ValueSpan, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"Compiling entry function '(\w+)'")]
    private static partial Regex Entry();

    [GeneratedRegex(@"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")]
    private static partial Regex Frame();

    [GeneratedRegex(@"Used (\d+) registers")]
    private static partial Regex Used();

    [GeneratedRegex(@"(\d+) bytes smem")]
    private static partial Regex Shared();
}
