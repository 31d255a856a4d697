using System.Text.Json;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Tests.Kernels;

/// <summary>One file of golden operations in float64: its cases from meta.json, its tensors as kernel inputs.</summary>
internal sealed class OpsGolden : IDisposable
{
    private readonly SafetensorsFile _file;
    private readonly List<JsonElement> _cases = [];

    public OpsGolden(string operation)
    {
        _file = SafetensorsFile.Open(Goldens.Require("ops", $"{operation}.safetensors"));
        using var meta = JsonDocument.Parse(File.ReadAllBytes(Goldens.Require("ops", "meta.json")));
        if (meta.RootElement.TryGetProperty(operation, out var cases))
        {
            _cases.AddRange(cases.EnumerateArray().Select(c => c.Clone()));
            Assert.NotEmpty(_cases);
        }
    }

    public KernelBench Bench { get; } = new();

    public IEnumerable<(int Index, JsonElement Meta)> Cases => _cases.Index();

    public bool Has(string name) => _file.Contains(name);

    public double[] Doubles(string name) => _file.ReadDoubles(name);

    public int[] Ints(string name) => _file.ReadInts(name);

    /// <summary>As float, the shape of the file.</summary>
    public Tensor<float> Input(string name)
    {
        var shape = _file[name].Shape;
        var extents = shape.Count == 1 ? new Shape((int)shape[0]) : new Shape((int)shape[0], (int)shape[1]);
        return Bench.Copy<float>(extents, _file.ReadDoubles(name));
    }

    public void Dispose()
    {
        _file.Dispose();
        Bench.Dispose();
    }
}
