using System.CommandLine;
using Z1Coder.Kernels;
using Z1Coder.Perf;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 perf run | compare</summary>
internal static class PerfCommand
{
    private const string Kernels = "kernels", Steps = "steps", Decode = "decode", Peer = "peer", Collectives = "collectives", Curate = "curate",
        Encode = "tokenizer";

    private static readonly string[] s_types = ["bf16", "fp32"], s_batches = ["1", "8"];

    public static Command Create() => new(
        "perf",
        """
        Times kernels, training steps and decoding against roofs measured in the same run; compares two runs.

          z1 perf run --suite kernels --only RmsNorm --only bf16
          z1 perf run --suite steps --only nano --only 512 --out before.json
          z1 perf compare before.json after.json
        """)
    {
        Run(), Compare(),
    };

    private static Command Run()
    {
        var suite = new Option<string[]>("--suite")
        {
            Description = "kernels, steps, decode, collectives (bus bandwidth; within this machine, or of the ranks that a launcher started), "
                + "peer (steps in turn with PyTorch; Z1_PEERPY names its Python), curate (a loopback teacher) or tokenizer (of --tokenizer, on --text); "
                + "repeatable; default the first three",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [Kernels, Steps, Decode],
        };
        suite.AcceptOnlyFromAmong(Kernels, Steps, Decode, Collectives, Peer, Curate, Encode);
        var only = new Option<string[]>("--only")
        {
            Description = "kernels: parts of name and shape, all of which must match; steps and peer: among nano mini 05b, 512 1280, bf16 fp32; decode: "
                + "sizes, types, 1 8 (sequences); collectives: all-reduce reduce-scatter all-gather all-to-all, self threads tcp, 2 4 (ranks), '1 MiB'; "
                + "a suite that knows none of the words is left out",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [],
        };
        var backend = new Option<string>("--backend")
        {
            Description = "collectives, between ranks of a launcher or with one rank on a GPU: nccl, mpi, tcp; auto as in train",
            DefaultValueFactory = _ => "auto",
        };
        backend.AcceptOnlyFromAmong([.. RankWorld.Backends]);
        var output = new Option<string?>("--out") { Description = "a JSON file for z1 perf compare" };
        var steps = new Option<int>("--steps") { Description = "timed training steps; 0 chooses by size" };
        var headRows = new Option<int>("--head-rows") { Description = "rows of one LM-head chunk", DefaultValueFactory = _ => 512 };
        var rounds = new Option<int>("--rounds") { Description = "peer: runs of each side", DefaultValueFactory = _ => 2 };
        var workers = new Option<int>("--workers") { Description = "threads; 0 takes every core" };
        var tokenizer = new Option<string?>("--tokenizer") { Description = "tokenizer: a model directory or tokenizer.json" };
        var text = new Option<string[]>("--text")
        {
            Description = "tokenizer: text files (repeatable)", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [],
        };
        var json = new Option<bool>("--json") { Description = "steps: one JSON line a case, with the keys of perf/peer/bench_train.py" };
        var device = Devices.Option();
        PlanCommand.Within(steps, 0, 100_000);
        PlanCommand.Within(headRows, 1, 1 << 20);
        PlanCommand.Within(rounds, 1, 1000);
        PlanCommand.Within(workers, 0, 4096);
        var command = new Command("run", "Measures; exit code 1 where a run allocated managed memory after warm-up, or the peer is not there.")
        {
            suite, only, output, steps, headRows, rounds, workers, device, backend, tokenizer, text, json,
        };
        Devices.Agree(command, device, backend);
        command.Validators.Add(result =>
        {
            var chosen = result.GetResult(suite)?.Tokens.Any(t => t.Value == Encode) == true;
            if (chosen && (result.GetResult(tokenizer) is null || result.GetResult(text) is not { Tokens.Count: > 0 }))
            {
                result.AddError("--suite tokenizer needs --tokenizer and --text");
            }
        });
        command.SetAction(parsed =>
        {
            using var stream = parsed.GetValue(device) == "cpu" ? new CpuStream(parsed.GetValue(workers)) : Devices.Open(parsed.GetValue(device)!);
            var suites = Share(parsed.GetValue(suite)!, parsed.GetValue(only)!, stream);
            var rows = new List<PerfRow>();
            var measured = true;
            if (suites.TryGetValue(Kernels, out var words))
            {
                rows.AddRange(RunKernels(stream, words, Console.Out));
            }

            if (suites.TryGetValue(Steps, out words))
            {
                rows.AddRange(RunSteps(stream, words, parsed.GetValue(steps), parsed.GetValue(headRows), parsed.GetValue(json)));
            }

            if (suites.TryGetValue(Decode, out words))
            {
                rows.AddRange(RunDecode(stream, words));
            }

            if (suites.TryGetValue(Collectives, out words))
            {
                var environment = RankEnvironment.Detect();
                rows.AddRange(RunCollectives(stream, environment, parsed.GetValue(backend)!, words));
                if (environment.Rank > 0)
                {
                    return 0;                           // rank 0 has measured, and writes
                }
            }

            if (suites.TryGetValue(Peer, out words))
            {
                measured = PeerRuns.Run(Chosen(words, "bf16"), parsed.GetValue(rounds), Console.Out);
            }

            if (suites.ContainsKey(Curate))
            {
                rows.Add(RunCurate());
            }

            if (suites.ContainsKey(Encode))
            {
                rows.AddRange(TokenizerBench.Run(Tokenizer.Load(parsed.GetValue(tokenizer)!), parsed.GetValue(text)!, Console.Out));
            }

            if (parsed.GetValue(output) is { } path)
            {
                Report(stream, rows).Save(path);
            }

            return measured && rows.All(r => r.ManagedBytes == 0) ? 0 : 1;
        });
        return command;
    }

    /// <summary>The words of --only by suite: each gets those it knows, and one that knows none of those given is left out.</summary>
    /// <exception cref="UsageException">a word that no suite of the run knows</exception>
    private static Dictionary<string, string[]> Share(string[] suites, string[] words, ComputeStream stream)
    {
        var knows = suites.Distinct().ToDictionary(s => s, s => Vocabulary(s, stream));
        if (words.FirstOrDefault(w => !knows.Values.Any(k => k(w))) is { } unknown)
        {
            throw new UsageException($"--only {unknown}: no case of {string.Join(", ", knows.Keys)} has it; 'z1 perf run --help' lists the words, 'z1 kernels list' the kernels");
        }

        return knows.Where(k => words.Length == 0 || words.Any(k.Value)).ToDictionary(k => k.Key, k => words.Where(k.Value).ToArray());
    }

    private static Func<string, bool> Vocabulary(string suite, ComputeStream stream) => suite switch
    {
        Kernels => word => PerfSuite.Kernels(KernelsCommand.SizeFor(stream)).Any(c => KernelsCommand.Matches(c, word)),
        Steps when stream is CudaStream { Device.IsHostCuda: false } => StepCase.OnGpu.Select(c => c.Size).Contains,
        Steps or Peer => StepCase.Sizes.Concat(StepCase.Lengths.Select(l => $"{l}")).Concat(s_types).Contains,
        Decode => StepCase.Sizes.Concat(s_types).Concat(s_batches).Contains,
        Collectives => CollectiveBench.Words.Contains,
        _ => _ => false,
    };

    private static Command Compare()
    {
        var before = new Argument<string>("base") { Description = "a file of z1 perf run --out, such as one of perf/baselines" };
        var after = new Argument<string>("new") { Description = "a later one" };
        var html = new Option<string?>("--html") { Description = "write an HTML table there too" };
        var others = new Option<bool>("--other-machine") { Description = "compare runs of different machines or devices all the same" };
        var command = new Command("compare", "Ratio per case with its noise, as a Markdown table; exit code 1 on a regression beyond the noise shown.")
        {
            before, after, html, others,
        };
        command.SetAction(parsed =>
        {
            var (first, second) = (PerfReport.Load(parsed.GetValue(before)!), PerfReport.Load(parsed.GetValue(after)!));
            if ((first.Device, first.Machine) != (second.Device, second.Machine) && !parsed.GetValue(others))
            {
                throw new UsageException(
                    $"the base was measured on {first.Device} of '{first.Machine}', the new run on {second.Device} of '{second.Machine}': times of different "
                    + "machines are no regression; --other-machine compares them all the same");
            }

            var comparison = new PerfComparison(first, second);
            Console.Write(comparison.ToMarkdown());
            if (parsed.GetValue(html) is { } path)
            {
                File.WriteAllText(path, comparison.ToHtml());
            }

            return comparison.HasRegression ? 1 : 0;
        });
        return command;
    }

    internal static PerfReport Report(ComputeStream stream, IReadOnlyList<PerfRow> rows) =>
        new(stream.DeviceName, RunEnvironment.Machine, DateTime.UtcNow, [.. NativeLibraries.Describe().Split('\n').Select(WithoutFolders)], rows);

    internal static IReadOnlyList<PerfRow> RunKernels(ComputeStream stream, string[] words, TextWriter output)
    {
        var chosen = KernelsCommand.Choose(PerfSuite.Kernels(KernelsCommand.SizeFor(stream)), words);
        if (stream is CudaStream cuda)
        {
            var runner = new CudaPerfRunner(cuda, output);
            runner.PrintHeader();
            return [.. chosen.Select(runner.Run)];
        }

        using var onCpu = new PerfRunner((CpuStream)stream, output);
        onCpu.PrintHeader();
        return [.. chosen.Select(onCpu.Run)];
    }

    private static List<PerfRow> RunSteps(ComputeStream stream, string[] words, int steps, int headRows, bool json)
    {
        if (!json)
        {
            Console.WriteLine(StepResult.Header);
        }

        var rows = new List<PerfRow>();
        var cases = stream is CudaStream { Device.IsHostCuda: false }
            ? StepCase.OnGpu.Where(c => words.Length == 0 || words.Contains(c.Size))
            : Chosen(words, "bf16");
        foreach (var which in cases)
        {
            var result = TrainSteps.Run(stream, which, steps, headRows);
            Console.WriteLine(json ? result.ToJson() : result.ToString());
            rows.Add(result.ToRow());
        }

        return rows;
    }

    private static List<PerfRow> RunDecode(ComputeStream stream, string[] words)
    {
        Console.WriteLine(DecodeResult.Header);
        var rows = new List<PerfRow>();
        foreach (var size in Among(words, StepCase.Sizes))
        {
            foreach (var type in Among(words, s_types, "bf16"))
            {
                foreach (var batch in Among(words, s_batches))
                {
                    var result = DecodeSteps.Run(stream, size, type, int.Parse(batch));
                    Console.WriteLine(result);
                    rows.Add(result.ToRow());
                }
            }
        }

        return rows;
    }

    private static List<PerfRow> RunCollectives(ComputeStream stream, RankEnvironment environment, string backend, string[] words)
    {
        if (environment.Size == 1 && backend == "auto" && stream is CpuStream)
        {
            return CollectiveBench.RunInProcess(words, Console.Out);
        }

        using var world = RankWorld.Open(environment, backend, stream, $"z1 perf {string.Join(' ', words)}", new CollectiveOptions());
        var roof = 0.0;
        world.OnFirst(() =>
        {
            roof = Roofs.Measure(stream, quick: true).CopyBytesPerSecond;
            Console.WriteLine(CollectiveBench.Header);
        });
        var ranksHere = stream is CudaStream ? 1 : environment.LocalSize;
        var rows = CollectiveBench.Run(world.Collective, stream, words, ranksHere, roof, world.IsFirst ? Console.Out : TextWriter.Null);
        world.Collective.Barrier();
        return rows;
    }

    /// <summary>In the current directory, because the fsync of a real disk is part of it.</summary>
    private static PerfRow RunCurate()
    {
        var folder = Directory.CreateDirectory($".z1-perf-{Environment.ProcessId}").FullName;
        try
        {
            Console.WriteLine(CurateThroughput.Header);
            var result = CurateThroughput.RunAsync(folder, items: 10_000, rounds: 5).GetAwaiter().GetResult();
            Console.WriteLine(result);
            return result.ToRow();
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>A baseline is kept in the repository: it says which library, not where on the machine.</summary>
    private static string WithoutFolders(string line) => string.Join(' ', line.Split(' ').Select(w => w.StartsWith('/') ? Path.GetFileName(w) : w));

    private static IEnumerable<StepCase> Chosen(string[] words, string type) =>
        from size in Among(words, StepCase.Sizes)
        from length in Among(words, [.. StepCase.Lengths.Select(l => $"{l}")])
        from t in Among(words, s_types, type)
        select new StepCase(size, int.Parse(length), t);

    private static IEnumerable<string> Among(string[] words, IReadOnlyList<string> all, string byDefault = "") =>
        all.Any(words.Contains) ? all.Where(words.Contains) : byDefault == "" ? all : [byDefault];
}
