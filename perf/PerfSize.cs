namespace Z1Coder.Perf;

/// <summary>At what sizes the cases are made.</summary>
public enum PerfSize
{
    /// <summary>Awkward and small, for checking on any device, hostcuda included.</summary>
    Small,

    /// <summary>Real widths, as many rows as a CPU does in about a second.</summary>
    Cpu,

    /// <summary>Real widths, as many rows as a micro-batch on a GPU has.</summary>
    Gpu,
}
