using System.Globalization;

namespace Z1Coder.Runtime;

/// <summary>Compiles device files: by NVRTC for a GPU, by g++ for hostcuda; each result is cached on disk.</summary>
public static class KernelCompiler
{
    /// <summary>What NVRTC is here, in one sentence: version and path, or what is missing.</summary>
    public static string DescribeNvrtc() => Nvrtc.Describe();

    /// <summary>Whether NVRTC can be loaded; <paramref name="reason"/> is one sentence when not.</summary>
    public static bool HasNvrtc(out string reason)
    {
        var library = NativeLibraries.OpenNamed("nvrtc");
        reason = library.Handle != 0 ? "" : Nvrtc.Describe();
        return library.Handle != 0;
    }

    /// <summary>Compiles with NVRTC for an architecture that need not be present.</summary>
    /// <exception cref="KernelCompileException">the compiler refuses the file; the message is its log</exception>
    /// <exception cref="NotSupportedException">NVRTC is absent, or does not know the architecture; one sentence</exception>
    public static KernelImage CompileFor(string architecture, KernelSource source, params IReadOnlyList<(string Name, int Value)> constants) =>
        Compile(CudaDriver.Nvidia, source, constants, architecture);

    /// <summary>Compiles with g++ to a shared object for hostcuda.</summary>
    /// <exception cref="KernelCompileException">the compiler refuses the file; the message is its log</exception>
    /// <exception cref="NotSupportedException">there is no C++ compiler; one sentence</exception>
    public static KernelImage CompileForHost(KernelSource source, params IReadOnlyList<(string Name, int Value)> constants) =>
        Compile(CudaDriver.HostCuda, source, constants, "sm_80");

    internal static KernelImage Compile(
        CudaDriver driver, KernelSource source, IReadOnlyList<(string Name, int Value)> constants, string architecture, ModuleCache? cache = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        cache ??= ModuleCache.Default;
        var (text, includes) = source.Load();
        string[] definitions = [.. constants.Select(c => string.Create(CultureInfo.InvariantCulture, $"-D{c.Name}={c.Value}"))];
        var host = driver == CudaDriver.HostCuda;
        string[] options = [.. host ? HostCompiler.Options : [.. Nvrtc.Options, $"-arch={architecture}"], .. definitions];
        var compiler = host ? HostCompiler.Version() : Nvrtc.Version();
        var key = ModuleCache.Key(compiler, architecture, options, text, includes);
        if (cache.Read(key) is { } known)
        {
            return known;
        }

        var image = host
            ? HostCompiler.Compile(source.Stem, text, includes, options)
            : Nvrtc.Compile(source.Stem, text, includes, options, architecture);
        cache.Write(key, image);
        return image;
    }
}
