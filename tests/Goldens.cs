using Xunit;

namespace Z1Coder.Tests;

/// <summary>
/// Files that tests read. Golden values: the folder named by Z1_GOLDENS, else shared/goldens beside the repository, else the smaller copy in
/// tests/golden. Real data: Z1_DATA, else shared/data beside the repository.
/// </summary>
public static class Goldens
{
    private static readonly Lazy<string> s_root = new(FindRoot);

    /// <summary>The root of the repository.</summary>
    public static string RepositoryRoot => s_root.Value;

    /// <summary>The folder of golden values; there always is one.</summary>
    public static string Folder
    {
        get
        {
            if (Environment.GetEnvironmentVariable("Z1_GOLDENS") is { Length: > 0 } named)
            {
                return named;
            }

            var shared = Path.Combine(RepositoryRoot, "..", "shared", "goldens");
            return Directory.Exists(shared) ? Path.GetFullPath(shared) : Path.Combine(RepositoryRoot, "tests", "golden");
        }
    }

    /// <summary>Names of the models in <see cref="Folder"/>: each a directory with config.json and model.safetensors.</summary>
    public static IEnumerable<string> Models => Directory.GetDirectories(Folder)
        .Where(d => File.Exists(Path.Combine(d, "model.safetensors")) && File.Exists(Path.Combine(d, "config.json")))
        .Select(d => Path.GetFileName(d))
        .Order(StringComparer.Ordinal);

    /// <summary>The directory of one model.</summary>
    public static string Model(string name) => Path.Combine(Folder, name);

    /// <summary>A file of <see cref="Folder"/>; the test is skipped when this folder lacks it.</summary>
    public static string Require(params string[] parts)
    {
        var path = Path.Combine([Folder, .. parts]);
        if (!File.Exists(path))
        {
            Assert.Skip($"{string.Join('/', parts)} is not in this set of golden values (Z1_GOLDENS names a fuller one)");
        }

        return path;
    }

    /// <summary>A file or directory of real data; the test is skipped when it is not there.</summary>
    public static string RequireData(params string[] parts)
    {
        var root = Environment.GetEnvironmentVariable("Z1_DATA") is { Length: > 0 } named ? named : Path.Combine(RepositoryRoot, "..", "shared", "data");
        var path = Path.GetFullPath(Path.Combine([root, .. parts]));
        if (!File.Exists(path) && !Directory.Exists(path))
        {
            Assert.Skip($"{string.Join('/', parts)} is not there (Z1_DATA names the folder of real data)");
        }

        return path;
    }

    private static string FindRoot()
    {
        for (var directory = AppContext.BaseDirectory; directory is not null; directory = Path.GetDirectoryName(directory))
        {
            if (File.Exists(Path.Combine(directory, "Z1Coder.Native.sln")))
            {
                return directory;
            }
        }

        throw new InvalidOperationException($"no Z1Coder.Native.sln above {AppContext.BaseDirectory}");
    }
}
