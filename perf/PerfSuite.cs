namespace Z1Coder.Perf;

/// <summary>Every case there is, by name: no discovery.</summary>
public static class PerfSuite
{
    /// <summary>The kernels, in the order of a training step.</summary>
    public static IEnumerable<PerfCase> Kernels(PerfSize size) =>
    [
        .. EmbeddingPerf.Cases(size),
        .. MatmulPerf.Cases(size),
        .. Fp8Perf.Cases(size),
        .. RmsNormPerf.Cases(size),
        .. RopePerf.Cases(size),
        .. AttentionPerf.Cases(size),
        .. SwiGluPerf.Cases(size),
        .. CrossEntropyPerf.Cases(size),
        .. GlobalNormPerf.Cases(size),
        .. AdamWPerf.Cases(size),
        .. CastPerf.Cases(size),
        .. ArgmaxPerf.Cases(size),
        .. SamplePerf.Cases(size),
    ];
}
