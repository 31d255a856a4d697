using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>Finding, leaving out and binding oneDNN; each libdnnl that Z1_ONEDNN_ALSO names (paths between ':') is tried too.</summary>
public sealed class OneDnnTests
{
    public static TheoryData<string> Libraries()
    {
        var paths = new TheoryData<string>("");
        foreach (var path in (Environment.GetEnvironmentVariable("Z1_ONEDNN_ALSO") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            paths.Add(path);
        }

        return paths;
    }

    [Fact]
    public void Switched_off_it_is_absent_and_says_so()
    {
        Assert.Null(OneDnn.TryLoad("off", out var description));
        Assert.Contains("left out by Z1_ONEDNN=off", description);
        Assert.Contains("libdnnl-dev", description);
    }

    [Fact]
    public void A_wrong_path_is_named()
    {
        Assert.Null(OneDnn.TryLoad("/nowhere/libdnnl.so", out var description));
        Assert.Contains("Z1_ONEDNN names /nowhere/libdnnl.so, which cannot be loaded", description);
    }

    [Fact]
    public void A_library_that_is_not_onednn_is_refused()
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Skip("names a Linux library");
        }

        Assert.Null(OneDnn.TryLoad("libm.so.6", out var description));
        Assert.Contains("cannot be used", description);
        Assert.Contains("dnnl_version", description);
    }

    [Fact]
    public void Absent_names_are_listed()
    {
        var opened = NativeLibraries.OpenAs(null, "Z1_NONE", "libz1-none.so.1", "libz1-none.so");
        Assert.Equal(0, opened.Handle);
        Assert.Equal("not found as libz1-none.so.1, libz1-none.so", opened.NameOrReason);
    }

    [Fact]
    public void The_doctor_gets_one_sentence() => Assert.Matches("^oneDNN: .*\\.$", NativeLibraries.Describe().Split('\n')[0]);

    [Theory]
    [MemberData(nameof(Libraries))]
    public void Small_products_are_right(string path)
    {
        var library = Load(path, out var description);
        using var thread = new OneDnnThread(library);
        float[] a = [1, 2, 3, 4, 5, 6], b = [1, -1, 0.5f, 2, 0, 1], c = [100, 200, 300, 400], bias = [10, 20];
        using Pinned pa = new(a), pb = new(b), pc = new(c), pbias = new(bias);

        // [2, 3]·[3, 2] with B stored by columns; sums and bias added to what is there
        Assert.True(thread.TryRun(Key(accumulate: true, bias: true), pa.Address, pb.Address, pbias.Address, pc.Address));
        Assert.Equal([100 + 10 + 0.5f, 200 + 20 + 5, 300 + 10 + 2, 400 + 20 + 14], c);
        Assert.True(thread.TryRun(Key(accumulate: false, bias: false), pa.Address, pb.Address, 0, pc.Address));
        Assert.Equal([0.5f, 5, 2, 14], c);

        Assert.True(library.SupportsFloat);
        Assert.Contains(library.Version.ToString(), description);
    }

    [Theory]
    [MemberData(nameof(Libraries))]
    public void Bfloat16_products_with_float_sums_are_right(string path)
    {
        var library = Load(path, out var description);
        if (!library.SupportsBFloat16)
        {
            Assert.Skip(description);
        }

        using var thread = new OneDnnThread(library);
        BFloat16[] a = [.. new float[] { 1, 2, 3, 4, 5, 6 }.Select(v => (BFloat16)v)];
        BFloat16[] b = [.. new[] { 1, -1, 0.5f, 2, 0, 1 }.Select(v => (BFloat16)v)];
        float[] c = [100, 200, 300, 400];
        using Pinned pa = new(a), pb = new(b), pc = new(c);
        Assert.True(thread.TryRun(Key(accumulate: true, bias: false, bfloat16: true), pa.Address, pb.Address, 0, pc.Address));
        Assert.Equal([100.5f, 205, 302, 414], c);
    }

    private static OneDnnMatmulKey Key(bool accumulate, bool bias, bool bfloat16 = false) => new()
    {
        M = 2, N = 2, K = 3, ARow = 3, AColumn = 1, BRow = 1, BColumn = 3, CRow = 2,
        InputIsBFloat16 = bfloat16, OutputIsBFloat16 = false, HasBias = bias, Accumulate = accumulate,
    };

    private static OneDnnLibrary Load(string path, out string description)
    {
        var library = path.Length == 0 ? OneDnn.Library : OneDnn.TryLoad(path, out _);
        if (path.Length == 0)
        {
            description = OneDnn.Description;
        }
        else
        {
            _ = OneDnn.TryLoad(path, out description);
        }

        if (library is null && path.Length == 0)
        {
            Assert.Skip(description);
        }

        Assert.NotNull(library);
        return library;
    }

    private sealed class Pinned(Array array) : IDisposable
    {
        private GCHandle _handle = GCHandle.Alloc(array, GCHandleType.Pinned);

        public nint Address => _handle.AddrOfPinnedObject();

        public void Dispose() => _handle.Free();
    }
}
