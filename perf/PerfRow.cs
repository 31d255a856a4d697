namespace Z1Coder.Perf;

/// <summary>One measured case: what a baseline file holds and a comparison reads.</summary>
/// <param name="Suite">kernels, steps, decode, collectives, curate or tokenizer</param>
/// <param name="Name">family and verb, then dtype; the size of a model; or a file</param>
/// <param name="Shape">as a person writes it</param>
/// <param name="P20">µs that one in five runs stayed below</param>
/// <param name="P50">µs of the median run</param>
/// <param name="P80">µs that four in five runs stayed below</param>
/// <param name="Bytes">that must move at least, from the kernel's Cost; 0 where not stated</param>
/// <param name="Flops">that must be done at least</param>
/// <param name="RoofBytesPerSecond">measured in the same run; 0 where it is no roof of this case</param>
/// <param name="RoofFlopsPerSecond">measured in the same run; 0 where it is no roof of this case</param>
/// <param name="ManagedBytes">allocated per run after warm-up; must be 0</param>
public sealed record PerfRow(
    string Suite, string Name, string Shape, double P20, double P50, double P80, double Bytes, double Flops, double RoofBytesPerSecond,
    double RoofFlopsPerSecond, long ManagedBytes)
{
    /// <summary>What a comparison joins on.</summary>
    public string Key => $"{Suite} | {Name} | {Shape}";

    /// <summary>Half the distance from p20 to p80, relative to the median: the noise that this run showed.</summary>
    public double Spread => (P80 - P20) / 2 / P50;

    /// <summary>Bytes per second of the median run.</summary>
    public double BytesPerSecond => Bytes / P50 * 1e6;

    /// <summary>Operations per second of the median run.</summary>
    public double FlopsPerSecond => Flops / P50 * 1e6;

    /// <summary>Share of the nearer roof: the longer of the two floors over the time taken; NaN without a roof.</summary>
    public double ShareOfRoof
    {
        get
        {
            var memory = RoofBytesPerSecond > 0 ? Bytes / RoofBytesPerSecond : 0;
            var arithmetic = RoofFlopsPerSecond > 0 ? Flops / RoofFlopsPerSecond : 0;
            var floor = Math.Max(memory, arithmetic) * 1e6;
            return floor > 0 ? floor / P50 : double.NaN;
        }
    }
}
