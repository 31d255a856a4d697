using Z1Coder.Perf;
using Z1Coder.Runtime;

const string Usage = """
    usage: Z1Coder.Perf [kernels [WORD] | steps [WORD…] | decode [WORD…] | peer [WORD…]]     nothing or all: everything
      kernels   each kernel whose name or shape contains WORD
      steps     whole training steps; WORDs choose among nano mini 05b, 512 1280, bf16 fp32; steps=N, head=ROWS, json
      decode    greedy decoding; WORDs choose among nano mini 05b, bf16 fp32, 1 8 (sequences)
      peer      training steps in turn with PyTorch's; WORDs as for steps; rounds=N; Z1_PEERPY names the peer's Python
    Z1_WORKERS sets the threads
    """;

var verb = args.Length == 0 ? "all" : args[0];
var words = args.Skip(1).ToArray();
_ = int.TryParse(Environment.GetEnvironmentVariable("Z1_WORKERS"), out var workers);
using var stream = new CpuStream(workers);
switch (verb)
{
    case "kernels" when words.Length < 2:
        return Kernels(words.FirstOrDefault(""));
    case "steps":
        return Steps(words);
    case "decode":
        return Decode(words);
    case "peer":
        _ = PeerRuns.Run(Chosen(words, "bf16"), Number("rounds", 2), Console.Out);
        return 0;
    case "all" when words.Length == 0:
        var failed = Kernels("") | Steps([]) | Decode([]);
        _ = PeerRuns.Run(Chosen([], "bf16"), 1, Console.Out);
        return failed;
    default:
        Console.Error.WriteLine(Usage);
        return 2;
}

int Kernels(string word)
{
    var chosen = PerfSuite.Kernels().Where(c => $"{c.Name} {c.Shape}".Contains(word, StringComparison.OrdinalIgnoreCase)).ToList();
    if (chosen.Count == 0)
    {
        Console.Error.WriteLine($"no kernel case contains '{word}'");
        return 2;
    }

    using var runner = new PerfRunner(stream, Console.Out);
    runner.PrintHeader();
    chosen.ForEach(runner.Run);
    return runner.AllAllocationFree ? 0 : 1;
}

int Steps(string[] chosen)
{
    var (failed, json) = (0, chosen.Contains("json"));
    if (!json)
    {
        Console.WriteLine(StepResult.Header);
    }

    foreach (var which in Chosen(chosen))
    {
        var result = TrainSteps.Run(stream, which, Number("steps", 0), Number("head", 512));
        Console.WriteLine(json ? result.ToJson() : result.ToString());
        failed |= result.ManagedBytesPerStep > 0 && !json ? 1 : 0;
    }

    return failed;
}

int Decode(string[] chosen)
{
    Console.WriteLine(DecodeResult.Header);
    var failed = 0;
    foreach (var size in Among(chosen, StepCase.Sizes))
    {
        foreach (var type in Among(chosen, ["bf16", "fp32"], "bf16"))
        {
            foreach (var batch in Among(chosen, ["1", "8"]))
            {
                var result = DecodeSteps.Run(stream, size, type, int.Parse(batch));
                Console.WriteLine(result);
                failed |= result.ManagedBytesPerPass > 0 ? 1 : 0;
            }
        }
    }

    return failed;
}

IEnumerable<StepCase> Chosen(string[] chosen, string type = "") =>
    from size in Among(chosen, StepCase.Sizes)
    from length in Among(chosen, [.. StepCase.Lengths.Select(l => $"{l}")])
    from t in Among(chosen, ["bf16", "fp32"], type == "" ? "bf16" : type)
    select new StepCase(size, int.Parse(length), t);

static IEnumerable<string> Among(string[] chosen, IReadOnlyList<string> all, string byDefault = "") =>
    all.Any(chosen.Contains) ? all.Where(chosen.Contains) : byDefault == "" ? all : [byDefault];

int Number(string name, int byDefault)
{
    var given = Array.Find(words, w => w.StartsWith(name + "=", StringComparison.Ordinal));
    return given is null ? byDefault : int.Parse(given[(name.Length + 1)..]);
}
