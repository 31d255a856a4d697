using Xunit;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>Where the real data lie, and files that vanish with the test.</summary>
internal static class TestFiles
{
    internal static string Benchmark(string name)
    {
        var folder = Environment.GetEnvironmentVariable("Z1_DATA");
        if (folder is null)
        {
            var root = new DirectoryInfo(AppContext.BaseDirectory);
            while (root is not null && !File.Exists(Path.Combine(root.FullName, "Z1Coder.Native.sln")))
            {
                root = root.Parent;
            }

            folder = root?.Parent is { } above ? Path.Combine(above.FullName, "shared", "data") : "shared/data";
        }

        var path = Path.Combine(folder, "benchmarks", name);
        if (!File.Exists(path))
        {
            Assert.Skip($"{path} is not there; set Z1_DATA to the folder of the real data");
        }

        return path;
    }

    internal static string Temporary(string content, string extension = ".jsonl")
    {
        var path = Path.Combine(Directory.CreateTempSubdirectory("z1-evaluate-").FullName, "file" + extension);
        File.WriteAllText(path, content);
        return path;
    }
}
