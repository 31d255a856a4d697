using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>Where NVIDIA's libraries are looked for, on a made-up machine.</summary>
public sealed class LibraryFoldersTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("z1-folders-").FullName;

    [Fact]
    public void Toolkits_come_newest_first_then_the_wheels_of_the_python_on_the_path()
    {
        Make("local/cuda-12.4/lib64", "local/cuda-13.0/lib64", "local/cuda/lib64", "local/cudnn", "bin", "venv/bin");
        Make("venv/lib/python3.12/site-packages/nvidia/cublas/lib", "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib");
        Make("base/bin", "base/lib/python3.12/site-packages/nvidia/cu13/lib", "home/.local/lib/python3.9/site-packages/nvidia/nccl/lib");
        File.WriteAllText(At("base/bin/python3.12"), "");
        File.CreateSymbolicLink(At("venv/bin/python3"), At("base/bin/python3.12"));
        var found = LibraryFolders.Toolkits(At("local"), $"{At("bin")}:{At("venv/bin")}:{At("base/bin")}", At("home")).Where(Directory.Exists).ToList();
        Assert.Equal(
            [
                "local/cuda/lib64",
                "local/cuda-13.0/lib64",
                "local/cuda-12.4/lib64",
                "venv/lib/python3.12/site-packages/nvidia/cuda_nvrtc/lib",
                "venv/lib/python3.12/site-packages/nvidia/cublas/lib",
                "base/lib/python3.12/site-packages/nvidia/cu13/lib",
                "home/.local/lib/python3.9/site-packages/nvidia/nccl/lib",
            ],
            found.Select(f => Path.GetRelativePath(_root, f)));
    }

    [Fact]
    public void A_machine_with_nothing_has_no_folders() =>
        Assert.DoesNotContain(LibraryFolders.Toolkits(At("local"), null, null), Directory.Exists);

    [Fact]
    public void The_variable_may_switch_off_name_a_file_or_name_a_directory()
    {
        Make("empty");
        Assert.Equal((0, "left out by Z1_X=off"), Open("off"));
        Assert.Equal((0, $"Z1_X names {At("absent.so")}, which cannot be loaded"), Open(At("absent.so")));
        Assert.Equal((0, $"Z1_X names the directory {At("empty")}, which holds none of libx.so.2, libx.so.1"), Open(At("empty")));
        Assert.Equal((0, "not found as libx.so.2, libx.so.1"), Open(null));

        (nint, string) Open(string? chosen)
        {
            var library = NativeLibraries.OpenAs(chosen, "Z1_X", [At("empty"), At("absent")], "libx.so.2", "libx.so.1");
            return (library.Handle, library.NameOrReason);
        }
    }

    [Fact]
    public void Missing_libraries_are_one_sentence_each()
    {
        var nvrtc = Nvrtc.Describe(NativeLibraries.OpenAs("off", Nvrtc.Variable, "libnvrtc.so.12"));
        Assert.StartsWith("NVRTC: left out by Z1_NVRTC=off; kernels cannot be compiled for a GPU (install ", nvrtc, StringComparison.Ordinal);
        foreach (var line in NativeLibraries.Describe().Split('\n'))
        {
            Assert.Matches(@"^[A-Za-z0-9 ]+: .+\.$", line);
        }
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string At(string path) => Path.Combine(_root, path);

    private void Make(params string[] folders)
    {
        foreach (var folder in folders)
        {
            Directory.CreateDirectory(At(folder));
        }
    }
}
