using System.Diagnostics;
using System.Text.RegularExpressions;
using Xunit;

namespace Z1Coder.Tests.Architecture;

/// <summary>Who may know whom, and what belongs together, read off the source.</summary>
public sealed partial class ArchitectureTests
{
    private static readonly string[] s_folders =
        ["Data", "Tokens", "Batches", "Model", "Optimize", "Checkpoints", "Decode", "Evaluate", "Curation", "Train", "Report", "Serve", "Cli"];

    private static string Root => Goldens.RepositoryRoot;

    [Fact]
    public void Projects_refer_one_way()
    {
        Assert.Empty(References("Runtime"));
        Assert.Equal(["Runtime"], References("Kernels"));
        Assert.Equal(["Kernels", "Runtime"], References("Trainer"));
    }

    [Fact]
    public void A_folder_of_the_trainer_uses_only_folders_to_its_left()
    {
        var trainer = Path.Combine(Root, "src", "Trainer");
        Assert.Equal(s_folders.Order(), Directory.GetDirectories(trainer).Select(d => Path.GetFileName(d)).Where(d => d is not ("bin" or "obj")).Order());
        var wrong = new List<string>();
        for (var own = 0; own < s_folders.Length; own++)
        {
            foreach (var file in Sources($"Trainer/{s_folders[own]}"))
            {
                var text = File.ReadAllText(file);
                Assert.Contains($"namespace Z1Coder.Trainer.{s_folders[own]}", text);
                foreach (Match use in Uses().Matches(text))
                {
                    var other = Array.IndexOf(s_folders, use.Groups[1].Value);
                    if (other > own)
                    {
                        wrong.Add($"{Path.GetRelativePath(Root, file)} uses {s_folders[other]}");
                    }
                }
            }
        }

        Assert.Empty(wrong);
    }

    [Fact]
    public void Namespaces_are_file_scoped() =>
        Assert.DoesNotContain(
            new[] { "src", "tests", "perf" }.SelectMany(d => Directory.GetFiles(Path.Combine(Root, d), "*.cs", SearchOption.AllDirectories)),
            f => File.ReadLines(f).Any(l => l.StartsWith("namespace ", StringComparison.Ordinal) && !l.EndsWith(';')));

    [Fact]
    public void Only_the_runtime_imports_and_only_below_the_trainer_is_code_unsafe()
    {
        Assert.DoesNotContain(Sources("Trainer"), f => Unsafe().IsMatch(File.ReadAllText(f)));
        Assert.DoesNotContain(Sources("Trainer").Concat(Sources("Kernels")), f => Imports().IsMatch(File.ReadAllText(f)));
        Assert.Contains(Sources("Runtime"), f => Imports().IsMatch(File.ReadAllText(f)));
        Assert.DoesNotContain("AllowUnsafeBlocks", File.ReadAllText(Path.Combine(Root, "src", "Trainer", "Trainer.csproj")));
    }

    [Fact]
    public void Collectives_are_the_last_room_of_the_runtime_and_kernels_know_no_ranks()
    {
        const string room = "Runtime/Collectives/";
        var types = Sources("Runtime/Collectives").Select(f => Path.GetFileName(f).Split('.')[0]).Where(t => t != "Reduction").Distinct().ToArray();
        Assert.Contains("ICollective", types);
        var names = new Regex($@"\b({string.Join('|', types)})\b");
        var wrong = Sources("Runtime").Where(f => !f.Contains(room, StringComparison.Ordinal)).Concat(Sources("Kernels"))
            .SelectMany(f => names.Matches(File.ReadAllText(f)).Select(m => $"{Path.GetRelativePath(Root, f)} uses {m.Value}"));
        Assert.Empty(wrong);
    }

    [Fact]
    public void Tests_that_confine_programs_in_this_process_run_one_after_the_other()
    {
        // SandboxTests counts what runs for this process.
        var users = Directory.GetFiles(Path.Combine(Root, "tests"), "*Tests.cs", SearchOption.AllDirectories).Where(f => Confines().IsMatch(File.ReadAllText(f))).ToList();
        Assert.True(users.Count >= 4, string.Join(", ", users));
        Assert.All(users, f => Assert.Contains("[Collection(\"sandbox\")]", File.ReadAllText(f), StringComparison.Ordinal));
    }

    [Fact]
    public void A_kernel_family_has_contract_implementation_test_and_perf_case_under_one_stem()
    {
        var missing = new List<string>();
        foreach (var stem in Directory.GetDirectories(Path.Combine(Root, "src", "Kernels")).Select(d => Path.GetFileName(d)).Where(d => d is not ("bin" or "obj")))
        {
            string[] files =
            [
                $"src/Kernels/{stem}/{stem}.cs", $"src/Kernels/{stem}/{stem}.Cpu.cs", $"src/Kernels/{stem}/{stem}.Cuda.cs", $"native/kernels/{stem}.cu",
                $"tests/Kernels/{stem}Tests.cs", $"perf/Kernels/{stem}Perf.cs",
            ];
            missing.AddRange(files.Where(f => !File.Exists(Path.Combine(Root, f))));
            var contract = Path.Combine(Root, files[0]);
            if (File.Exists(contract) && !File.ReadAllText(contract).Contains("Cost", StringComparison.Ordinal))
            {
                missing.Add($"{files[0]}: what it must cost");
            }
        }

        Assert.Empty(missing);
    }

    [Fact]
    public void A_device_file_includes_native_headers_alone_and_holds_no_assembly()
    {
        var headers = Directory.GetFiles(Path.Combine(Root, "native", "include")).Select(f => Path.GetFileName(f)).ToHashSet();
        var wrong = new List<string>();
        foreach (var file in Directory.GetFiles(Path.Combine(Root, "native", "kernels"), "*.cu"))
        {
            var text = File.ReadAllText(file);
            wrong.AddRange(Includes().Matches(text).Select(m => m.Groups[1].Value.Trim('"')).Where(i => !headers.Contains(i)).Select(i => $"{Path.GetFileName(file)}: {i}"));
            wrong.AddRange(Assembly().Matches(text).Select(m => $"{Path.GetFileName(file)}: {m.Value}"));
        }

        Assert.Empty(wrong);
    }

    [Fact]
    public void A_public_type_has_a_file_of_its_name()
    {
        var wrong = new List<string>();
        foreach (var file in Sources(""))
        {
            var stem = Path.GetFileName(file).Split('.')[0];
            var types = PublicTypes().Matches(File.ReadAllText(file)).Select(m => m.Groups[1].Value).Distinct().ToList();
            if (types.Count > 1 || (types.Count == 1 && types[0] != stem))
            {
                wrong.Add($"{Path.GetRelativePath(Root, file)}: {string.Join(", ", types)}");
            }
        }

        Assert.Empty(wrong);
    }

    [Fact]
    public void No_tracked_file_names_this_machine_or_a_package_host()
    {
        // in pieces, so that this file does not hold what it looks for
        string[] patterns =
        [
            "/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "nexus" + ".", "artif" + "actory", "pypi." + "org", "nuget" + ".org", "npm" + "js.org", "127.0" + ".0.1:",
        ];
        var found = new List<string>();
        foreach (var file in Tracked())
        {
            var path = Path.Combine(Root, file);
            if (!File.Exists(path) || new FileInfo(path).Length > 4 << 20 || file.StartsWith("tests/golden/", StringComparison.Ordinal))
            {
                continue;
            }

            var text = File.ReadAllText(path);
            found.AddRange(patterns.Where(p => text.Contains(p, StringComparison.OrdinalIgnoreCase)).Select(p => $"{file}: {p}"));
        }

        Assert.Empty(found);
    }

    [Fact]
    public void Nothing_is_left_to_do()
    {
        var marks = new Regex(@"\b(TO" + "DO|FIX" + @"ME|X{3}|HACK)\b");
        var found = new List<string>();
        foreach (var file in Sources(""))
        {
            var number = 0;
            foreach (var line in File.ReadLines(file))
            {
                number++;
                if (marks.IsMatch(line))
                {
                    found.Add($"{Path.GetRelativePath(Root, file)}:{number}: {line.Trim()}");
                }
            }
        }

        Assert.Empty(found);
    }

    private static IEnumerable<string> Sources(string below) =>
        Directory.GetFiles(Path.Combine(Root, "src", below), "*.cs", SearchOption.AllDirectories)
            .Where(f => !f.Contains("/obj/", StringComparison.Ordinal) && !f.Contains("/bin/", StringComparison.Ordinal));

    private static List<string> References(string project) =>
    [
        .. ProjectReferences().Matches(File.ReadAllText(Path.Combine(Root, "src", project, $"{project}.csproj"))).Select(m => m.Groups[1].Value).Order(),
    ];

    private static string[] Tracked()
    {
        var start = new ProcessStartInfo("git", ["ls-files", "-z"]) { WorkingDirectory = Root, RedirectStandardOutput = true, RedirectStandardError = true };
        try
        {
            using var git = Process.Start(start)!;
            var files = git.StandardOutput.ReadToEnd().Split('\0', StringSplitOptions.RemoveEmptyEntries);
            git.WaitForExit();
            if (git.ExitCode == 0 && files.Length > 0)
            {
                return files;
            }
        }
        catch (System.ComponentModel.Win32Exception)
        {
            // no git: the files that are there are looked at instead
        }

        return [.. new[] { "src", "tests", "perf", "recipes", "docs" }.Select(d => Path.Combine(Root, d)).Where(Directory.Exists)
            .SelectMany(d => Directory.GetFiles(d, "*", SearchOption.AllDirectories)).Select(f => Path.GetRelativePath(Root, f))];
    }

    [GeneratedRegex(@"(?<!\w)(Sandbox\.(Create|Probe)|new Sandbox)\(")]
    private static partial Regex Confines();

    [GeneratedRegex(@"^\s*#\s*include\s*(\S+)", RegexOptions.Multiline)]
    private static partial Regex Includes();

    [GeneratedRegex(@"\basm\b|__syncthreads|__shfl\w*|__shared__")]
    private static partial Regex Assembly();

    [GeneratedRegex(@"Z1Coder\.Trainer\.(\w+)")]
    private static partial Regex Uses();

    [GeneratedRegex(@"^\s*(\[|public|private|internal|protected|static|fixed).*\bunsafe\b|\bunsafe\s*\{", RegexOptions.Multiline)]
    private static partial Regex Unsafe();

    [GeneratedRegex(@"\[(LibraryImport|DllImport)")]
    private static partial Regex Imports();

    [GeneratedRegex(@"^public\s+(?:(?:static|sealed|abstract|partial|readonly|ref|unsafe)\s+)*(?:record\s+struct|record|class|struct|interface|enum|delegate)\s+(\w+)",
        RegexOptions.Multiline)]
    private static partial Regex PublicTypes();

    [GeneratedRegex("<ProjectReference Include=\"\\.\\./(\\w+)/")]
    private static partial Regex ProjectReferences();
}
