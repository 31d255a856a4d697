using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>The device files of native/hostcuda/tests, which only tests compile.</summary>
internal static class HostCudaSources
{
    public static KernelSource Faults { get; } = new("Faults", Read);

    public static KernelSource Instructions { get; } = new("Instructions", Read);

    public static KernelSource Hopper { get; } = new("Hopper", Read);

    private static string? Read(string name)
    {
        var native = Path.Combine(Goldens.RepositoryRoot, "native");
        string[] places = [Path.Combine(native, "hostcuda", "tests", name), Path.Combine(native, "include", name)];
        return places.FirstOrDefault(File.Exists) is { } path ? File.ReadAllText(path) : null;
    }
}
