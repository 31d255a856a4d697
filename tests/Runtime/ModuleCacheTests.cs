using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>The cache of compiled kernels: what is read back verifies, everything else is compiled again.</summary>
public sealed class ModuleCacheTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-cache-test-").FullName;
    private readonly StringWriter _warnings = new();

    [Fact]
    public void What_was_written_is_read_back()
    {
        var cache = Cache();
        Assert.Null(cache.Read("key"));
        cache.Write("key", new([1, 2, 3], "log\nof two lines", FromCache: false));
        var read = cache.Read("key");
        Assert.NotNull(read);
        Assert.Equal([1, 2, 3], read.Image);
        Assert.Equal(("log\nof two lines", true), (read.Log, read.FromCache));
        Assert.Equal(["key"], Directory.GetFiles(_folder).Select(Path.GetFileName));
    }

    [Fact]
    public void Any_damage_makes_the_entry_absent()
    {
        var cache = Cache();
        cache.Write("key", new([1, 2, 3, 4, 5], "log", FromCache: false));
        var path = Path.Combine(_folder, "key");
        var whole = File.ReadAllBytes(path);
        for (var i = 0; i < whole.Length; i++)
        {
            var damaged = (byte[])whole.Clone();
            damaged[i] ^= 0x10;
            File.WriteAllBytes(path, damaged);
            Assert.True(cache.Read("key") is null, $"byte {i} changed and the entry still reads");
            File.WriteAllBytes(path, whole[..i]);
            Assert.True(cache.Read("key") is null, $"cut to {i} bytes and the entry still reads");
        }

        File.WriteAllBytes(path, whole);
        Assert.NotNull(cache.Read("key"));
        File.Move(path, Path.Combine(_folder, "other"));
        Assert.Null(cache.Read("other"));
    }

    [Fact]
    public void Everything_that_decides_the_image_is_in_the_key()
    {
        string[] keys =
        [
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a"], "text", [("h", "1")]),
            ModuleCache.Key("nvrtc 12.5", "sm_80", ["-a"], "text", [("h", "1")]),
            ModuleCache.Key("nvrtc 12.4", "sm_90a", ["-a"], "text", [("h", "1")]),
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a", "-b"], "text", [("h", "1")]),
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a-b"], "text", [("h", "1")]),
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a"], "text ", [("h", "1")]),
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a"], "text", [("h", "2")]),
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a"], "text", [("g", "1")]),
            ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a"], "text", []),
        ];
        Assert.Equal(keys.Length, keys.Distinct().Count());
        Assert.Equal(keys[0], ModuleCache.Key("nvrtc 12.4", "sm_80", ["-a"], "text", [("h", "1")]));
    }

    [Fact]
    public void A_directory_that_cannot_be_written_costs_one_warning()
    {
        var file = Path.Combine(_folder, "file");
        File.WriteAllText(file, "");
        var cache = new ModuleCache(Path.Combine(file, "below a file"), _warnings);
        cache.Write("a", new([1], "", FromCache: false));
        cache.Write("b", new([1], "", FromCache: false));
        Assert.Null(cache.Read("a"));
        var lines = _warnings.ToString().TrimEnd('\n').Split('\n');
        Assert.StartsWith($"z1: cannot store compiled kernels in {file}", Assert.Single(lines), StringComparison.Ordinal);
    }

    [Fact]
    public void Includes_are_followed_and_absent_ones_left_to_the_compiler()
    {
        var files = new Dictionary<string, string>
        {
            ["K.cu"] = "#include \"a.cuh\"\n  #  include \"b.cuh\"\n#include <c>\n// #include \"d.cuh\"\n",
            ["a.cuh"] = "#include \"b.cuh\"\n",
            ["b.cuh"] = "#include \"a.cuh\"\n#include \"absent.cuh\"\n",
            ["d.cuh"] = "",
        };
        var (text, includes) = new KernelSource("K", files.GetValueOrDefault).Load();
        Assert.Equal(files["K.cu"], text);
        Assert.Equal(["a.cuh", "b.cuh"], includes.Select(i => i.Name));
        Assert.Contains("L.cu", Assert.Throws<FileNotFoundException>(() => new KernelSource("L", files.GetValueOrDefault).Load()).Message, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private ModuleCache Cache() => new(_folder, _warnings);
}
