using System.Collections.Concurrent;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>The device files of native/kernels and native/include, embedded in this assembly. Z1_NATIVE names a directory with kernels/
/// and include/ that is read instead, to change a kernel without a build.</summary>
public static class NativeSources
{
    private static readonly ConcurrentDictionary<string, KernelSource> s_sources = [];
    private static readonly string? s_directory = Environment.GetEnvironmentVariable("Z1_NATIVE") is { Length: > 0 } chosen ? chosen : null;

    /// <summary>Names of the device files without ".cu", sorted.</summary>
    public static IReadOnlyList<string> Stems { get; } =
        [.. typeof(NativeSources).Assembly.GetManifestResourceNames().Where(n => n.EndsWith(".cu", StringComparison.Ordinal))
            .Select(n => n["native/".Length..^".cu".Length]).Order(StringComparer.Ordinal)];

    /// <summary>The device file "<paramref name="stem"/>.cu": the same object for every call, so that kernels of one file share a module.</summary>
    public static KernelSource Of(string stem) => s_sources.GetOrAdd(stem, static s => new KernelSource(s, Read));

    /// <summary>The text of a device file or header, or null when there is none.</summary>
    public static string? Read(string name)
    {
        if (s_directory is not null)
        {
            var path = Path.Combine(s_directory, name.EndsWith(".cu", StringComparison.Ordinal) ? "kernels" : "include", name);
            return File.Exists(path) ? File.ReadAllText(path) : null;
        }

        using var stream = typeof(NativeSources).Assembly.GetManifestResourceStream($"native/{name}");
        if (stream is null)
        {
            return null;
        }

        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
