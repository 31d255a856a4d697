using Z1Coder.Perf;
using Z1Coder.Runtime;

if (args is not (["kernels"] or ["kernels", _]))
{
    Console.Error.WriteLine("usage: Z1Coder.Perf kernels [WORD]     times each kernel whose name or shape contains WORD; Z1_WORKERS sets the threads");
    return 2;
}

var word = args.Length > 1 ? args[1] : "";
var chosen = PerfSuite.Kernels().Where(c => $"{c.Name} {c.Shape}".Contains(word, StringComparison.OrdinalIgnoreCase)).ToList();
if (chosen.Count == 0)
{
    Console.Error.WriteLine($"no kernel case contains '{word}'");
    return 2;
}

_ = int.TryParse(Environment.GetEnvironmentVariable("Z1_WORKERS"), out var workers);
using var stream = new CpuStream(workers);
using var runner = new PerfRunner(stream, Console.Out);
runner.PrintHeader();
foreach (var c in chosen)
{
    runner.Run(c);
}

return runner.AllAllocationFree ? 0 : 1;
