using System.Text;

namespace Z1Coder.Runtime;

/// <summary>An entry point loaded on one device. Lives as long as the device's modules.</summary>
internal sealed unsafe class CudaFunction
{
    private readonly Lock _gate = new();
    private int _maxShared;

    private CudaFunction(CudaDevice device, nint value, int parameterBytes, int maxThreads, int registers, int maxShared)
    {
        Device = device;
        Value = value;
        ParameterBytes = parameterBytes;
        MaxThreads = maxThreads;
        Registers = registers;
        _maxShared = maxShared;
    }

    public CudaDevice Device { get; }

    /// <summary>The CUfunction.</summary>
    public nint Value { get; }

    /// <summary>Bytes of the parameter struct as the device code declares it; -1 when the driver is too old to say.</summary>
    public int ParameterBytes { get; }

    public int MaxThreads { get; }

    public int Registers { get; }

    public static CudaFunction Find(CudaDevice device, CudaKernel kernel, nint module)
    {
        nint function;
        fixed (byte* name = Encoding.UTF8.GetBytes(kernel.Entry + '\0'))
        {
            var result = Cuda.cuModuleGetFunction(&function, module, name);
            if (result != Cuda.Success)
            {
                Cuda.Throw(result, $"looking for {kernel.Entry} in {kernel.Source.Stem}.cu");
            }
        }

        int threads, registers, shared;
        Cuda.Check(Cuda.cuFuncGetAttribute(&threads, Cuda.FunctionMaxThreads, function));
        Cuda.Check(Cuda.cuFuncGetAttribute(&registers, Cuda.FunctionRegisters, function));
        Cuda.Check(Cuda.cuFuncGetAttribute(&shared, Cuda.FunctionMaxDynamicShared, function));
        return new(device, function, FindParameterBytes(function), threads, registers, shared);
    }

    /// <summary>Lets a launch take this many bytes of dynamic shared memory; asks the driver once per larger size.</summary>
    public void AllowShared(int bytes, CudaKernel kernel)
    {
        if (bytes <= Volatile.Read(ref _maxShared))
        {
            return;
        }

        lock (_gate)
        {
            if (bytes <= _maxShared)
            {
                return;
            }

            if (bytes > Device.MaxSharedBytes)
            {
                throw new NotSupportedException(
                    $"{kernel.Entry} takes {bytes:N0} bytes of shared memory per block, and {Device} has {Device.MaxSharedBytes:N0}");
            }

            Cuda.Check(Cuda.cuFuncSetAttribute(Value, Cuda.FunctionMaxDynamicShared, bytes));
            Volatile.Write(ref _maxShared, bytes);
        }
    }

    private static int FindParameterBytes(nint function)
    {
        nuint offset, bytes;
        try
        {
            return Cuda.cuFuncGetParamInfo(function, 0, &offset, &bytes) == Cuda.Success ? (int)bytes : -1;
        }
        catch (EntryPointNotFoundException)
        {
            return -1;
        }
    }
}
