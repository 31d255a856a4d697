// Targets of ./build.sh. Everything a target needs is built by it; artifacts/z1/z1 is the CLI after any of them.
using System.Diagnostics;
using System.Xml.Linq;

var target = Argument("target", "build");
var word = Argument("word", "");
var root = Context.Environment.WorkingDirectory.FullPath;

// Where build.sh unpacked NVRTC; every process started here looks there.
var nvrtc = $"{root}/.tools/nvrtc/usr/lib/x86_64-linux-gnu";
if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable("Z1_NVRTC")) && DirectoryExists(nvrtc))
    Environment.SetEnvironmentVariable("Z1_NVRTC", nvrtc);

int Execute(string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string> environment = null, TextWriter output = null)
{
    var start = new ProcessStartInfo(program) { WorkingDirectory = root, RedirectStandardOutput = output != null, RedirectStandardError = output != null };
    foreach (var argument in arguments) start.ArgumentList.Add(argument);
    foreach (var (name, value) in environment ?? new Dictionary<string, string>()) start.Environment[name] = value;
    using var process = Process.Start(start);
    if (output != null)
    {
        output = TextWriter.Synchronized(output);
        process.OutputDataReceived += (_, e) => { if (e.Data != null) output.WriteLine(e.Data); };
        process.ErrorDataReceived += (_, e) => { if (e.Data != null) output.WriteLine(e.Data); };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    process.WaitForExit();
    return process.ExitCode;
}

void Expect(int exitCode, string what)
{
    if (exitCode != 0) throw new CakeException(exitCode, $"{what} failed with exit code {exitCode}");
}

// libhostcuda.so: a CUDA driver that runs kernels on the CPU. Without a C++ compiler its tests are skipped.
void BuildHostCuda()
{
    var exit = Execute("bash", ["native/hostcuda/build.sh", "artifacts/hostcuda"]);
    if (exit != 3) Expect(exit, "hostcuda");
}

// Images compiled ahead of time are kept by their date alone, in one folder for whole assemblies and for trimmed ones: a z1 of both aborts when it starts.
void KeepImagesOf(string kind)
{
    const string folder = "artifacts/obj/Trainer/release_linux-x64/R2R", note = folder + "/kind.txt";
    if (FileExists(note) && System.IO.File.ReadAllText(note) == kind) return;
    if (DirectoryExists(folder)) DeleteDirectory(folder, new DeleteDirectorySettings { Recursive = true, Force = true });
    System.IO.Directory.CreateDirectory(folder);
    System.IO.File.WriteAllText(note, kind);
}

Task("build").Does(() =>
{
    // Beside the projects, which wait for one another and rarely use two cores.
    var hostcuda = System.Threading.Tasks.Task.Run(BuildHostCuda);
    Expect(Execute("dotnet", ["build", "Z1Coder.Native.sln", "-c", "Release", "--nologo", "-v", "quiet", "-clp:NoSummary"]), "build");
    KeepImagesOf("whole");
    Expect(Execute("dotnet", ["publish", "src/Trainer/Trainer.csproj", "-c", "Release", "--no-build", "--nologo", "-v", "quiet", "-o", "artifacts/z1"]), "publish");
    hostcuda.GetAwaiter().GetResult();
});

var failures = new List<string>();

(int Passed, int Failed, int Skipped) RunTests(string title, string[] filters, Dictionary<string, string> environment, TextWriter output = null)
{
    var report = $"{root}/artifacts/tests-{title.Replace(' ', '-')}.xml";
    if (FileExists(report)) DeleteFile(report);
    (output ?? Console.Out).WriteLine($"── tests: {title}");
    var exit = Execute($"{root}/artifacts/bin/Tests/release/Z1Coder.Tests",
        [.. filters, "-noLogo", "-noColor", "-reporter", output == null ? "default" : "quiet", "-xml", report], environment, output);
    if (!FileExists(report)) return (0, 1, 0);      // the runner died: that is a failure, whatever it had passed
    var totals = XDocument.Load(report).Descendants("assembly").ToList();
    int Sum(string name) => totals.Sum(a => (int?)a.Attribute(name) ?? 0);
    foreach (var test in totals.Descendants("test").Where(t => (string)t.Attribute("result") == "Fail"))
    {
        var failure = test.Element("failure");
        lock (failures) failures.Add($"FAILED ({title}) {(string)test.Attribute("name")}\n{(string)failure?.Element("message")}\n{(string)failure?.Element("stack-trace")}");
    }

    var failed = Sum("failed") + Sum("errors");
    return (Sum("passed"), failed == 0 && exit != 0 ? 1 : failed, Sum("skipped") + Sum("not-run"));
}

Task("test").IsDependentOn("build").Does(() =>
{
    var all = word == "" ? [] : new[] { "-method", $"*{word}*" };
    var runs = new List<(int Passed, int Failed, int Skipped)>();
    var narrow = new StringWriter();
    // Most of what the tests start ends within a second: counting how often each of its branches is taken, to compile it better later, costs a seventh
    // of its time and never pays.
    Environment.SetEnvironmentVariable("DOTNET_TieredPGO", "0");
    // The kernels again on narrower instruction sets: same lanes, same bounds. What g++ and NVRTC compile does not depend on them and runs in "all".
    // Beside "all", which mostly waits for processes of its own.
    var beside = System.Threading.Tasks.Task.Run(() =>
    {
        var kernels = new[] { "-namespace", "Z1Coder.Tests.Kernels", "-namespace", "Z1Coder.Tests.Runtime", "-class-", "*RoofsTests", "-class-", "*Collective*", "-class-", "*Rendezvous*", "-class-", "*RankEnvironment*" };
        // On processors of before 2013 products have to be right: that rows, workers and a second call change nothing is shown elsewhere.
        string[] old = ["-class-", "*MatmulRowsTests", "-method-", "*orkers*", "-method-", "*allocates*"];
        foreach (var (title, variable, less) in word != "" ? [] : new (string, string, string[])[] { ("AVX-512", "EnableAVX512", []), ("AVX2", "EnableAVX2", old) })
        {
            // what the machine lacks "all" has been without
            if (title == "AVX-512" && !System.Runtime.Intrinsics.X86.Avx512F.IsSupported) continue;
            runs.Add(RunTests($"kernels without {title}", [.. kernels, .. less], new() { [$"DOTNET_{variable}"] = "0", ["Z1_HOSTCUDA"] = "off", ["Z1_NVRTC"] = "off" }, narrow));
        }
    });
    var main = RunTests("all", all, []);
    beside.Wait();
    runs.Add(main);
    Console.Write(narrow);

    var (passed, failed, skipped) = (runs.Sum(r => r.Passed), runs.Sum(r => r.Failed), runs.Sum(r => r.Skipped));
    if (passed + failed == 0) Console.WriteLine($"no test ran{(word == "" ? "" : $": no test's name contains '{word}'")}");
    failures.ForEach(Console.WriteLine);            // again, at the end, where a reader of the log looks first
    Console.WriteLine($"{passed} passed, {failed} failed, {skipped} skipped");
    Console.Out.Flush();
    if (failed > 0 || passed == 0) Environment.Exit(1);
    Environment.Exit(0);                            // nothing may print after the line that CI reads
});

Task("demo").IsDependentOn("build").Does(() => Expect(Execute("artifacts/z1/z1", ["demo"]), "demo"));

Task("perf").IsDependentOn("build").Does(() =>
    Expect(Execute("artifacts/z1/z1", ["perf", "run", .. word == "" ? [] : word.Split(' ')]), "perf"));

void PublishTo(string folder, params string[] more)
{
    KeepImagesOf("trimmed");
    Expect(Execute("dotnet", ["publish", "src/Trainer/Trainer.csproj", "-c", "Release", "-r", "linux-x64", "--self-contained",
        "-p:PublishSingleFile=true", "-p:PublishTrimmed=true", "-p:PublishReadyToRun=true", "-p:DebugType=embedded", "--nologo", "-v", "quiet", "-o", folder, .. more]), "publish");
}

Task("publish").IsDependentOn("build").Does(() =>
{
    PublishTo("artifacts/publish");
    Expect(Execute("artifacts/publish/z1", ["doctor"]), "the published z1");
});

// One directory for a GPU machine without .NET and without a network.
Task("gpu-bundle").IsDependentOn("build").Does(() =>
{
    const string bundle = "artifacts/gpu-bundle";
    if (DirectoryExists(bundle)) DeleteDirectory(bundle, new DeleteDirectorySettings { Recursive = true, Force = true });
    PublishTo(bundle, "-p:EnableCompressionInSingleFile=true");     // it is copied once and starts few times
    CopyDirectory("tests/golden", $"{bundle}/golden");
    CopyFile("perf/z1-gpu", $"{bundle}/z1-gpu");
    CopyFile("perf/peer/bench_gpu.py", $"{bundle}/bench_gpu.py");
    Expect(Execute("chmod", ["+x", $"{bundle}/z1-gpu"]), "chmod");
    var bytes = GetFiles($"{bundle}/**/*").Sum(f => new System.IO.FileInfo(f.FullPath).Length);
    Console.WriteLine($"{bundle}: {bytes / 1048576.0:F1} MiB; copy it and run ./z1-gpu selftest, then ./z1-gpu perf");
    if (bytes > 50 << 20) throw new CakeException(1, "the bundle passes 50 MiB");
});

RunTarget(target);
