namespace Z1Coder.Perf;

/// <summary>Every case there is, by name: no discovery.</summary>
public static class PerfSuite
{
    /// <summary>The kernels, in the order of a training step.</summary>
    public static IEnumerable<PerfCase> Kernels() =>
    [
        .. EmbeddingPerf.Cases(),
        .. MatmulPerf.Cases(),
        .. Fp8Perf.Cases(),
        .. RmsNormPerf.Cases(),
        .. RopePerf.Cases(),
        .. AttentionPerf.Cases(),
        .. SwiGluPerf.Cases(),
        .. CrossEntropyPerf.Cases(),
        .. GlobalNormPerf.Cases(),
        .. AdamWPerf.Cases(),
        .. CastPerf.Cases(),
    ];
}
