using System.Globalization;

namespace Z1Coder.Runtime;

/// <summary>Where NVIDIA's libraries lie when the loader does not know them: toolkits under /usr/local, wheels of the Python on PATH.</summary>
internal static class LibraryFolders
{
    /// <summary>Folders of this machine, in the order they are searched.</summary>
    public static IEnumerable<string> Toolkits() =>
        Toolkits("/usr/local", Environment.GetEnvironmentVariable("PATH"), Environment.GetEnvironmentVariable("HOME"));

    /// <summary>As <see cref="Toolkits()"/>, with the places given.</summary>
    public static IEnumerable<string> Toolkits(string local, string? path, string? home)
    {
        foreach (var toolkit in Directories(local, "cuda*").OrderByDescending(Version))
        {
            yield return Path.Combine(toolkit, "lib64");
            yield return Path.Combine(toolkit, "targets", "x86_64-linux", "lib");
        }

        foreach (var packages in SitePackages(path, home))
        {
            // nvidia/<library>/lib of CUDA 12 wheels, nvidia/cu13/lib of CUDA 13 wheels
            foreach (var library in Directories(Path.Combine(packages, "nvidia"), "*").OrderDescending(StringComparer.Ordinal))
            {
                yield return Path.Combine(library, "lib");
            }
        }
    }

    /// <summary>Where build.sh puts libhostcuda.so: beside the program, or in artifacts/hostcuda of the checkout it runs from.</summary>
    public static IEnumerable<string> HostCuda()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            yield return folder.FullName;
            yield return Path.Combine(folder.FullName, "hostcuda");
            yield return Path.Combine(folder.FullName, "artifacts", "hostcuda");
        }
    }

    /// <summary>site-packages and dist-packages of the first python3 or python on <paramref name="path"/>, as given and behind its link.</summary>
    private static IEnumerable<string> SitePackages(string? path, string? home)
    {
        var python = (path ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .SelectMany(d => new[] { Path.Combine(d, "python3"), Path.Combine(d, "python") }).FirstOrDefault(File.Exists);
        if (python is null)
        {
            yield break;
        }

        var prefixes = new List<string?> { Prefix(python) };
        if (File.ResolveLinkTarget(python, returnFinalTarget: true) is { } target)
        {
            prefixes.Add(Prefix(target.FullName));
        }

        foreach (var prefix in prefixes.OfType<string>().Distinct())
        {
            foreach (var lib in (string[])["lib", "lib64", Path.Combine("local", "lib")])
            {
                foreach (var version in Directories(Path.Combine(prefix, lib), "python3*").OrderByDescending(Version))
                {
                    yield return Path.Combine(version, "site-packages");
                    yield return Path.Combine(version, "dist-packages");
                }
            }
        }

        if (home is not null)
        {
            foreach (var version in Directories(Path.Combine(home, ".local", "lib"), "python3*").OrderByDescending(Version))
            {
                yield return Path.Combine(version, "site-packages");
            }
        }

        static string? Prefix(string program) => Path.GetDirectoryName(Path.GetDirectoryName(program));
    }

    private static string[] Directories(string folder, string pattern)
    {
        try
        {
            return Directory.Exists(folder) ? Directory.GetDirectories(folder, pattern) : [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>"cuda-12.4" gives 12004; without a number, the link that the system chose comes first.</summary>
    private static int Version(string folder)
    {
        var digits = Path.GetFileName(folder).TrimStart("abcdefghijklmnopqrstuvwxyz-".ToCharArray()).Split('.');
        return !int.TryParse(digits[0], CultureInfo.InvariantCulture, out var major) ? int.MaxValue
            : (major * 1000) + (digits.Length > 1 && int.TryParse(digits[1], CultureInfo.InvariantCulture, out var minor) ? minor : 0);
    }
}
